"""`lianqiao demo settlement`: a bill in CNY paid in HKD, both sides or neither; cheats, crashes."""

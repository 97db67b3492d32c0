// Compiles src/*.sol to artifacts.json (ABI and bytecode); with --check compares instead.
// npm ci && npm run build
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const here = new URL(".", import.meta.url);
const require = createRequire(process.env.LIANQIAO_SOLC ?? import.meta.url);
const solc = require("solc");
const names = readdirSync(new URL("src/", here)).filter((n) => n.endsWith(".sol")).sort();
const sources = Object.fromEntries(
  names.map((n) => [n, { content: readFileSync(new URL(`src/${n}`, here), "utf8") }]),
);
const settings = {
  optimizer: { enabled: true, runs: 200 },
  evmVersion: "london", // what GoQuorum and older Besu networks run
  viaIR: true,
  metadata: { bytecodeHash: "none", appendCBOR: false },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
};
const output = JSON.parse(solc.compile(JSON.stringify({ language: "Solidity", sources, settings })));
const errors = (output.errors ?? []).filter((e) => e.severity !== "info");
for (const e of errors) console.error(e.formattedMessage);
if (errors.length) process.exit(1);
const built = { compiler: solc.version() };
for (const file of Object.keys(output.contracts).sort())
  for (const [name, made] of Object.entries(output.contracts[file]))
    if (made.evm.bytecode.object)
      built[name] = { abi: made.abi, bytecode: "0x" + made.evm.bytecode.object };
const text = JSON.stringify(built, null, 1) + "\n";
const path = new URL("artifacts.json", here);
if (process.argv.includes("--check")) {
  if (readFileSync(path, "utf8") !== text) {
    console.error("artifacts.json is not what src/ compiles to: npm run build");
    process.exit(1);
  }
  console.log("artifacts.json is what src/ compiles to");
} else writeFileSync(path, text);

import { readFileSync } from "node:fs";
import { Dialect, LocalLinter } from "harper.js";
import { binary } from "harper.js/binary";
const linter = new LocalLinter({ binary, dialect: Dialect.British });
await linter.setup();
const files = process.argv.slice(2);
for (const file of files) {
  const text = readFileSync(file, "utf8");
  const found = await linter.organizedLints(text, { language: "markdown" });
  for (const [rule, lints] of Object.entries(found)) for (const lint of lints) {
    const start = lint.span().start;
    const line = [...text].slice(0, start).filter((c) => c === "\n").length + 1;
    console.log(`${file}:${line}: ${rule}: ${JSON.stringify(lint.get_problem_text())}: ${lint.message()}`);
  }
}

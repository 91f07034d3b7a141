// Checks spelling and grammar with Harper: `node check.mjs FILE...` prints what it finds, and exits with 1
// if that is anything. Code is skipped, but for errors.md, whose code is the messages of the commands.
import { readFileSync } from "node:fs";
import { Dialect, LocalLinter } from "harper.js";
import { binary } from "harper.js/binary";

const lines = (name) =>
  readFileSync(new URL(name, import.meta.url), "utf8")
    .split("\n")
    .filter((line) => line && !line.startsWith("#"));

const linter = new LocalLinter({ binary, dialect: Dialect.British });
await linter.setup();
await linter.importWords(lines("words.txt").flatMap((word) => [word, `${word}'s`]));
const rules = await linter.getLintConfig();
for (const rule of lines("rules-off.txt")) rules[rule] = false;
await linter.setLintConfig(rules);
const accepted = new Set(lines("accepted.txt"));

// A name of something: CloudTrail, S3, p99, a commit.
const isName = (word) => /^.+[A-Z\d]|^[A-Za-z]?\.?$/.test(word.replace(/'?s$/, ""));

const prose = (file, text) =>
  file.endsWith("reference/errors.md")
    ? text.replace(/`/g, "").replace(/\b[A-Z]{2,}(?:-[A-Z]+)*\b…?|'…'|…/g, "it").replace(/(?<= |\|)-{1,2}\w[-\w]*|\S*[_/:=~[]\S+/g, "it")
    : text;

let count = 0;
for (const file of process.argv.slice(2)) {
  const text = prose(file, readFileSync(file, "utf8"));
  const characters = [...text];
  const byRule = await linter.organizedLints(text, { language: "markdown" });
  for (const [rule, lints] of Object.entries(byRule))
    for (const lint of lints) {
      const { start, end } = lint.span();
      const next = characters.slice(end, end + 40).join("").match(/^\s*\S*/)[0];
      const words = lint.get_problem_text();
      const found = `${rule}: ${words}${next}`.replace(/\s+/g, " ");
      if (rule === "AnA" && file.endsWith("reference/errors.md")) continue; // before a placeholder
      if (accepted.has(found) || (rule === "SpellCheck" && isName(words))) continue;
      const line = characters.slice(0, start).filter((one) => one === "\n").length + 1;
      console.log(`${file}:${line}: ${found}: ${lint.message()}`);
      count += 1;
    }
}
process.exit(count ? 1 : 0);

/** Files that the browser makes from a page's data. */

/** Milliseconds to keep a file for the browser to read. */
const KEPT = 30_000;

/** Downloads a string as a file. */
export function save(name: string, type: string, content: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.hidden = true;
  document.body.append(link);
  link.click();
  link.remove();
  // Browsers read it after the click, some of them only after the next task.
  setTimeout(() => URL.revokeObjectURL(link.href), KEPT);
}

/** Starts of formulas, also after the separators of other locales. The server's CSV has the same rules: tests/cells.json. */
const FORMULA = /^ *[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/;
const LATER_FORMULA = /[;|\t\r\n](?= *[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])/g;
/** Control, format and surrogate characters and line separators, but not the white space of cells. */
const UNPRINTABLE = /(?![\t\r\n])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

function escaped(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  const [letter, digits] = code > 0xffff ? ["U", 8] : code > 0xff ? ["u", 4] : ["x", 2];
  return `\\${letter}${code.toString(16).padStart(digits as number, "0")}`;
}

function cell(value: string | number | null): string {
  if (typeof value === "number") return String(value);
  const printable = (value ?? "").replace(UNPRINTABLE, escaped);
  const text = (FORMULA.test(printable) ? "'" : "") + printable.replace(LATER_FORMULA, "$&'");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function csv(rows: (string | number | null)[][]): string {
  return rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

/** Properties from the page's style sheet that the file of a chart needs inline. */
const STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "font-size", "font-family"];

/** The colour behind an element: the background of its nearest ancestor with one. */
function backgroundOf(element: Element): string {
  for (let around: Element | null = element; around; around = around.parentElement) {
    const { backgroundColor } = getComputedStyle(around);
    if (backgroundColor && !/^(transparent|rgba\(0, 0, 0, 0\))$/.test(backgroundColor)) return backgroundColor;
  }
  return "#fff";
}

/** A chart of the page as a file, with its colours and fonts. */
export function svgFile(shown: SVGSVGElement, title: string): string {
  const copy = shown.cloneNode(true) as SVGSVGElement;
  const originals = [...shown.querySelectorAll("*")];
  copy.querySelectorAll("*").forEach((element, index) => {
    const style = getComputedStyle(originals[index] as Element);
    for (const name of STYLES) {
      const value = style.getPropertyValue(name);
      if (value) element.setAttribute(name, value);
    }
    element.removeAttribute("class");
  });
  for (const name of ["class", "aria-hidden"]) copy.removeAttribute(name);
  copy.setAttribute("viewBox", `0 0 ${shown.getAttribute("width")} ${shown.getAttribute("height")}`);
  const paper = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  Object.entries({ width: "100%", height: "100%", fill: backgroundOf(shown) }).forEach(([name, value]) => paper.setAttribute(name, value));
  const heading = document.createElementNS("http://www.w3.org/2000/svg", "title");
  heading.textContent = title;
  copy.prepend(heading, paper);
  return new XMLSerializer().serializeToString(copy);
}

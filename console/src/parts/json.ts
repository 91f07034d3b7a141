/** Reads JSON without changing it: numbers keep their digits, members their order and repetitions. */

export type Node =
  | { kind: "object"; members: { key: string; value: Node }[] }
  | { kind: "array"; items: Node[] }
  | { kind: "string" | "number" | "word"; source: string };

export class JsonError extends Error {}

const TOKEN = /[ \t\n\r]*(?:([{}[\],:])|("(?:[^"\\]|\\[\s\S])*")|(-?\d[\d.eE+-]*)|(true|false|null))/y;

/** Parses JSON without recursion, so that no nesting is too deep. */
export function parseJson(text: string): Node {
  const token = new RegExp(TOKEN);
  const open: (Extract<Node, { kind: "object" | "array" }> & { key?: string })[] = [];
  let result: Node | null = null;
  const add = (node: Node): void => {
    const parent = open.at(-1);
    if (!parent) {
      if (result) throw new JsonError("more than one value");
      result = node;
    } else if (parent.kind === "array") parent.items.push(node);
    else if (parent.key !== undefined) {
      parent.members.push({ key: parent.key, value: node });
      delete parent.key;
    } else throw new JsonError("a value without a name");
  };
  const end = text.trimEnd().length;
  while (token.lastIndex < end) {
    const at = token.lastIndex;
    const match = token.exec(text);
    if (!match) throw new JsonError(`not JSON at character ${at + 1}`);
    const [, mark, string, digits, word] = match;
    const parent = open.at(-1);
    if (mark === "{" || mark === "[") {
      const node: Node = mark === "{" ? { kind: "object", members: [] } : { kind: "array", items: [] };
      add(node);
      open.push(node);
    } else if (mark === "}" || mark === "]") open.pop();
    else if (string !== undefined) {
      if (parent?.kind === "object" && parent.key === undefined) parent.key = decode(string);
      else add({ kind: "string", source: string });
    } else if (digits !== undefined) add({ kind: "number", source: digits });
    else if (word !== undefined) add({ kind: "word", source: word });
  }
  if (!result || open.length) throw new JsonError("the text ends early");
  return result;
}

/** The value of a JSON string. */
export function decode(source: string): string {
  try {
    return JSON.parse(source);
  } catch {
    return source.slice(1, -1);
  }
}

export function at(node: Node | undefined, ...path: string[]): Node | undefined {
  return path.reduce<Node | undefined>(
    (found, key) => (found?.kind === "object" ? found.members.find((member) => member.key === key)?.value : undefined),
    node,
  );
}

export function size(node: Node): number {
  return node.kind === "object" ? node.members.length : node.kind === "array" ? node.items.length : 0;
}

/** All values with their paths, such as `requestParameters.tags.0.key`. */
export function leaves(node: Node, path = ""): [string, string][] {
  if (node.kind === "object") return node.members.flatMap(({ key, value }) => leaves(value, path ? `${path}.${key}` : key));
  if (node.kind === "array") return node.items.flatMap((item, index) => leaves(item, `${path}.${index}`));
  return [[path, node.source]];
}

/** The text with one member per line. */
export function indented(node: Node, depth = 0): string {
  const pad = "  ".repeat(depth + 1);
  const parts =
    node.kind === "object"
      ? node.members.map(({ key, value }) => `${pad}${JSON.stringify(key)}: ${indented(value, depth + 1)}`)
      : node.kind === "array"
        ? node.items.map((item) => pad + indented(item, depth + 1))
        : [];
  const [before, after] = node.kind === "object" ? ["{", "}"] : ["[", "]"];
  if (node.kind !== "object" && node.kind !== "array") return node.source;
  return parts.length ? `${before}\n${parts.join(",\n")}\n${"  ".repeat(depth)}${after}` : before + after;
}

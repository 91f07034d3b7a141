import { type ReactNode, useMemo, useState } from "react";
import { visible } from "../text/visible";
import { decode, type Node, parseJson, size } from "./json";

interface Props {
  text: string;
  /** Called with the path and the parsed value that the user chose for the filter. */
  onPick?: (path: string, value: string) => void;
}

const MAX_ITEMS = 100;
const MAX_SHOWN_LENGTH = 2_000;

/** A record as a tree with its stored text. Closed parts are not rendered. */
export function JsonTree({ text, onPick }: Props): ReactNode {
  const root = useMemo(() => {
    try {
      return parseJson(text);
    } catch {
      return null;
    }
  }, [text]);
  if (!root) return <pre className="json">{visible(text)}</pre>;
  return (
    <div className="json" role="region" aria-label="Record" tabIndex={0}>
      <Children node={root} path="" depth={0} onPick={onPick} />
    </div>
  );
}

function Children({ node, path, depth, onPick }: { node: Node; path: string; depth: number } & Pick<Props, "onPick">): ReactNode {
  const [most, setMost] = useState(MAX_ITEMS);
  const entries: [string | null, string, Node][] =
    node.kind === "object"
      ? node.members.map(({ key, value }) => [key, path ? `${path}.${member(key)}` : member(key), value])
      : node.kind === "array"
        ? node.items.map((item) => [null, path, item])
        : [];
  if (node.kind !== "object" && node.kind !== "array") return <Leaf node={node} path={path} onPick={onPick} />;
  return (
    <ul>
      {entries.slice(0, most).map(([key, below, value], index) => (
        <li key={index}>
          <Entry name={key} node={value} path={below} depth={depth} onPick={onPick} />
        </li>
      ))}
      {entries.length > most && (
        <li>
          <button type="button" className="plain" onClick={() => setMost(most + 10 * MAX_ITEMS)}>
            {entries.length - most} more
          </button>
        </li>
      )}
    </ul>
  );
}

function Entry({ name, node, path, depth, onPick }: { name: string | null; node: Node; path: string; depth: number } & Pick<Props, "onPick">): ReactNode {
  const [open, setOpen] = useState(depth < 2);
  const label = name === null ? null : <span className="json-key">{visible(name)}: </span>;
  if (node.kind !== "object" && node.kind !== "array") {
    return (
      <span className="json-line">
        {label}
        <Leaf node={node} path={path} onPick={onPick} />
      </span>
    );
  }
  const many = size(node);
  const brackets = node.kind === "object" ? ["{", "}"] : ["[", "]"];
  if (!many) {
    return (
      <span className="json-line">
        {label}
        {brackets.join("")}
      </span>
    );
  }
  return (
    <>
      <button type="button" className="json-toggle" aria-expanded={open} onClick={() => setOpen(!open)}>
        <span aria-hidden="true">{open ? "▾" : "▸"}</span> {label}
        {open ? brackets[0] : `${brackets[0]}…${brackets[1]}`}
        <span className="json-note"> {many}</span>
      </button>
      {open && <Children node={node} path={path} depth={depth + 1} onPick={onPick} />}
    </>
  );
}

function Leaf({ node, path, onPick }: { node: Node; path: string } & Pick<Props, "onPick">): ReactNode {
  const [whole, setWhole] = useState(false);
  if (node.kind === "object" || node.kind === "array") return null;
  const shown = whole || node.source.length <= MAX_SHOWN_LENGTH ? node.source : node.source.slice(0, MAX_SHOWN_LENGTH);
  return (
    <>
      <span className={`json-${node.kind}`}>{visible(shown)}</span>
      {shown.length < node.source.length && (
        <button type="button" className="plain" onClick={() => setWhole(true)}>
          … {node.source.length - shown.length} more characters
        </button>
      )}
      {onPick && path && node.source !== "null" && node.source.length < 500 && (
        <button
          type="button"
          className="json-pick"
          aria-label={`Search for ${visible(path)} with this value`}
          title="Search for this value"
          onClick={() => onPick(path, node.kind === "string" ? decode(node.source) : node.source)}
        >
          ⌕
        </button>
      )}
    </>
  );
}

/** A member in the syntax of a search expression's path. */
function member(key: string): string {
  return key.replace(/[\\.\s()",=<>!:]/g, "\\$&");
}

/** Keyboard shortcuts: single keys, and `g` followed by a key. They are off while the user types. */

import { useEffect, useLayoutEffect, useRef } from "react";
import { preferences } from "./preferences";

export type Keys = Record<string, (event: KeyboardEvent) => void>;

const layers: { current: Keys }[] = [];
let first: string | null = null;
let firstAt = 0;

/** Types of inputs that take no text. */
const NO_TEXT = new Set(["button", "checkbox", "file", "image", "radio", "range", "reset", "submit"]);

function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return !NO_TEXT.has(target.type);
  return target.isContentEditable || /^(TEXTAREA|SELECT)$/.test(target.tagName);
}

/** Keys that a focused control needs for itself. */
function belongsToControl(event: KeyboardEvent): boolean {
  if (event.key !== " " && event.key !== "Enter") return false;
  return event.target instanceof HTMLElement && event.target.closest("button, a, summary, [role=button], [role=menuitem], [role=option]") !== null;
}

window.addEventListener("keydown", (event) => {
  if (!preferences().keys || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (isTyping(event.target) || belongsToControl(event)) return;
  const key = first !== null && Date.now() - firstAt < 1_500 ? `${first} ${event.key}` : event.key;
  first = null;
  for (const layer of [...layers].reverse()) {
    const action = layer.current[key];
    if (!action) continue;
    event.preventDefault();
    action(event);
    return;
  }
  if (layers.some((layer) => Object.keys(layer.current).some((name) => name.startsWith(`${event.key} `)))) {
    first = event.key;
    firstAt = Date.now();
  }
});

/** Binds keys while the component is shown. The keys of later components win. */
export function useKeys(keys: Keys): void {
  const layer = useRef(keys);
  layer.current = keys;
  useEffect(() => {
    layers.push(layer);
    return () => void layers.splice(layers.indexOf(layer), 1);
  }, []);
}

let typed = "";

/** Collects keystrokes for a field that is still loading. */
export function TypedText(): null {
  // Keys must reach either this or the field: both change hands in the commit.
  useLayoutEffect(() => {
    typed = "";
    const collect = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key.length === 1) typed += event.key;
      else if (event.key === "Backspace") typed = typed.slice(0, -1);
      event.preventDefault();
      event.stopImmediatePropagation();
    };
    window.addEventListener("keydown", collect, true);
    return () => window.removeEventListener("keydown", collect, true);
  }, []);
  return null;
}

/** Returns the text that `TypedText` collected, once. */
export function typedText(): string {
  const text = typed;
  typed = "";
  return text;
}

/** Keyboard shortcuts: single keys, and `g` followed by another; none while a text is being typed. */

import { useEffect, useRef } from "react";
import { preferences } from "./preferences";

export type Keys = Record<string, (event: KeyboardEvent) => void>;

const layers: { current: Keys }[] = [];
let first: string | null = null;
let firstAt = 0;

/** Types of inputs into which nothing is typed. */
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
  const second = first !== null && Date.now() - firstAt < 1_500 ? `${first} ${event.key}` : null;
  first = null;
  const key = second ?? event.key;
  for (const layer of [...layers].reverse()) {
    const action = layer.current[key] ?? layer.current[event.key];
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

/** Keys work while the component is shown; those of later components come first. */
export function useKeys(keys: Keys): void {
  const layer = useRef(keys);
  layer.current = keys;
  useEffect(() => {
    layers.push(layer);
    return () => void layers.splice(layers.indexOf(layer), 1);
  }, []);
}

import { type KeyboardEvent, type ReactNode, type RefObject, useEffect, useId, useRef, useState } from "react";
import type { TablesAnswer } from "../api/types";
import { Suggestions } from "../parts/Suggestions";
import { type Suggestion, columnsIn, completion } from "./sqlCompletion";

interface Props {
  statement: string;
  onChange: (statement: string) => void;
  onRun: () => void;
  known: TablesAnswer | null;
  editor: RefObject<HTMLTextAreaElement | null>;
}

interface Popup {
  from: number;
  suggestions: Suggestion[];
  active: number;
  /** Place of the word, in characters and lines of the editor. */
  column: number;
  line: number;
}

/** An editor that completes tables, columns, members of records, functions and keywords. */
export function SqlEditor({ statement, onChange, onRun, known, editor }: Props): ReactNode {
  const id = useId();
  const [popup, setPopup] = useState<Popup | null>(null);
  const cursor = useRef<number | null>(null);
  useEffect(() => {
    if (cursor.current === null) return;
    editor.current?.setSelectionRange(cursor.current, cursor.current);
    cursor.current = null;
  }, [statement]);

  function suggest(text: string, at: number, isAsked: boolean): void {
    const found = completion(text, at, known?.tables ?? [], known ? columnsIn(text, known) : []);
    const typed = found ? text.slice(found.from, at) : "";
    // Enter after a whole word begins a line.
    const isWhole = found?.suggestions.some((each) => each.text.toLowerCase() === typed.toLowerCase());
    const isWanted = isAsked || (typed.length > 0 && !isWhole) || text[at - 1] === ".";
    if (!found?.suggestions.length || !isWanted) return setPopup(null);
    const lines = text.slice(0, found.from).split("\n");
    setPopup({ ...found, active: 0, line: lines.length, column: lines.at(-1)?.length ?? 0 });
  }

  function take({ text }: Suggestion): void {
    if (!popup || !editor.current) return;
    const end = editor.current.selectionEnd;
    cursor.current = popup.from + text.length;
    onChange(statement.slice(0, popup.from) + text + statement.slice(end));
    setPopup(null);
    editor.current.focus();
  }

  function onKeyDown(event: KeyboardEvent<HTMLTextAreaElement>): void {
    const { selectionStart } = event.currentTarget;
    const chosen = popup?.suggestions[popup.active];
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      setPopup(null);
      onRun();
    } else if (event.key === " " && event.ctrlKey) suggest(statement, selectionStart, true);
    else if (popup && by) {
      const count = popup.suggestions.length;
      setPopup({ ...popup, active: (popup.active + by + count) % count });
    } else if (chosen && (event.key === "Enter" || event.key === "Tab")) take(chosen);
    else if (popup && event.key === "Escape") setPopup(null);
    else {
      if (event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End") setPopup(null);
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  return (
    <div className="sql">
      <textarea
        ref={editor}
        aria-label="Statement"
        aria-autocomplete="list"
        aria-haspopup="listbox"
        aria-controls={popup ? `${id}list` : undefined}
        aria-activedescendant={popup ? `${id}${popup.active}` : undefined}
        spellCheck={false}
        wrap="off"
        rows={Math.min(20, Math.max(6, statement.split("\n").length + 1))}
        value={statement}
        onChange={({ target }) => {
          onChange(target.value);
          suggest(target.value, target.selectionStart, false);
        }}
        onKeyDown={onKeyDown}
        onBlur={() => setPopup(null)}
        onClick={() => setPopup(null)}
        onScroll={() => setPopup(null)}
      />
      {popup && (
        <Suggestions
          id={id}
          suggestions={popup.suggestions}
          active={popup.active}
          onActive={(active) => setPopup({ ...popup, active })}
          onTake={take}
          style={{
            insetBlockStart: `calc(8px + ${popup.line} * 1.5em - ${editor.current?.scrollTop ?? 0}px)`,
            insetInlineStart: `calc(12px + ${popup.column}ch - ${editor.current?.scrollLeft ?? 0}px)`,
          }}
        />
      )}
    </div>
  );
}

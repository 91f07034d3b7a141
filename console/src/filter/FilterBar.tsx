import Icon from "@cloudscape-design/components/icon";
import { type ClipboardEvent, type KeyboardEvent, type ReactNode, useEffect, useId, useLayoutEffect, useRef, useState } from "react";
import type { ExpressionTerms } from "../api/types";
import { asApiError } from "../api/useCall";
import { useKeys } from "../app/keys";
import { useRoute } from "../app/router";
import { Suggestions } from "../parts/Suggestions";
import { hidden, visible } from "../text/visible";
import { allOf, read, useTerms } from "./expression";
import { lastWord } from "./fields";
import { type Suggestion, useSuggestions } from "./suggestions";

interface Props {
  expression: string;
  onChange: (expression: string) => void;
  /** Called when the Enter key has run the search. */
  onEnter: () => void;
  /** Called when the Esc key leaves the field. */
  onLeave: () => void;
}

type Wrong = NonNullable<ExpressionTerms["error"]>;

/** The event filter: the terms of a search expression, and a field to type more. */
export function FilterBar({ expression, onChange, onEnter, onLeave }: Props): ReactNode {
  const [typed, setTyped] = useState("");
  /** The term that is edited as text. */
  const [edited, setEdited] = useState<string | null>(null);
  const [wrong, setWrong] = useState<Wrong | null>(null);
  const [isOpen, setOpen] = useState(false);
  const [active, setActive] = useState(-1);
  const input = useRef<HTMLInputElement>(null);
  /** The current expression and edited term, which may have changed when an answer arrives. */
  const now = useRef({ expression, edited, changes: 0 });
  Object.assign(now.current, { expression, edited });
  const id = useId();
  const { query } = useRoute();
  const scope = { account: query.get("account"), region: query.get("region"), categories: query.get("categories") };
  const terms = [...new Set(useTerms(expression).map(({ text }) => text))];
  const kept = terms.filter((term) => term !== edited);
  const suggestions = useSuggestions(typed, scope);
  const chosen = isOpen ? suggestions[active] : undefined;
  const isListed = isOpen && suggestions.length > 0;
  useKeys({ "/": () => input.current?.focus() });

  // Lets the user correct an invalid expression from an address.
  useEffect(() => {
    let [isCurrent, isInvalid] = [true, false];
    void read(expression).then(
      ({ error }) => {
        if (!error || !isCurrent) return;
        isInvalid = true;
        setTyped(visible(expression));
        setEdited(expression);
        setWrong(error);
      },
      () => undefined,
    );
    return () => {
      isCurrent = false;
      if (isInvalid && now.current.edited === expression) clear();
    };
  }, [expression]);
  // Before the alert is painted, so that the next keystroke replaces the mistake.
  useLayoutEffect(() => {
    if (wrong?.at == null) return;
    // The server counts the characters of the unescaped text.
    const characters = [...hidden(typed)];
    const place = (count: number): number => visible(characters.slice(0, count).join("")).length;
    input.current?.setSelectionRange(place(wrong.at), place(wrong.at + wrong.length));
  }, [wrong]);

  const change = (text: string): void => {
    now.current.changes += 1;
    setTyped(text);
    setWrong(null);
    setActive(-1);
    setOpen(true);
  };
  const clear = (): void => {
    change("");
    setOpen(false);
    setEdited(null);
  };
  const run = async (text: string): Promise<void> => {
    const { changes } = now.current;
    setOpen(false);
    try {
      const found = await read(hidden(text));
      const before = await read(now.current.expression);
      if (now.current.changes !== changes) return;
      if (found.error) {
        setTyped(visible(text));
        return setWrong(found.error);
      }
      const [entered, old] = [found, before].map(({ terms }) => terms.map(({ text }) => text)) as [string[], string[]];
      const place = edited === null ? old.length : old.indexOf(edited);
      const others = old.filter((term) => term !== edited);
      const next = allOf(...others.slice(0, place), ...entered.filter((term) => !others.includes(term)), ...others.slice(place));
      clear();
      if (next === allOf(...old)) return onLeave();
      onChange(next);
      onEnter();
    } catch (error) {
      if (now.current.changes === changes) setWrong({ message: asApiError(error).message, at: null, length: 0 });
    }
    return undefined;
  };
  const take = (suggestion: Suggestion): void => {
    const text = suggestion.isWhole ? suggestion.text : typed.slice(0, lastWord(typed).start) + suggestion.text;
    change(visible(text));
    if (!suggestion.isOpen) void run(text);
    input.current?.focus();
  };
  const edit = (term: string): void => {
    change(visible(term));
    setEdited(term);
    setOpen(false);
    input.current?.focus();
  };
  const leave = (): void => {
    if (edited === null) setOpen(false);
    else clear();
    onLeave();
  };
  const remove = (term: string): void => {
    onChange(allOf(...terms.filter((other) => other !== term)));
    input.current?.focus();
  };

  const onKeyDown = (event: KeyboardEvent<HTMLInputElement>): void => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const last = kept.at(-1);
    if (by) {
      setOpen(true);
      setActive(Math.min(Math.max(isOpen ? active + by : 0, -1), suggestions.length - 1));
    } else if (event.key === "Enter") chosen ? take(chosen) : void run(typed);
    else if (event.key === "Escape") leave();
    else if (event.key === "Backspace" && !typed && edited === null && last !== undefined) edit(last);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const onCopy = (event: ClipboardEvent<HTMLElement>): void => {
    const { selectionStart, selectionEnd } = input.current ?? {};
    if (selectionStart !== selectionEnd || !window.getSelection()?.isCollapsed) return;
    event.clipboardData.setData("text/plain", expression);
    event.preventDefault();
  };

  return (
    <div className="filter" onCopy={onCopy}>
      <div className={wrong ? "filter-box wrong" : "filter-box"} onClick={({ target, currentTarget }) => target === currentTarget && input.current?.focus()}>
        <Icon name="search" size="small" />
        {kept.length > 0 && (
          <ul className="terms" aria-label="Terms of the filter">
            {kept.map((term) => (
              <li key={term}>
                <button type="button" title={`${visible(term)}\nClick to edit it`} aria-label={`Edit ${visible(term)}`} onClick={() => edit(term)}>
                  {visible(term)}
                </button>
                <button type="button" title="Remove" aria-label={`Remove ${visible(term)}`} onClick={() => remove(term)}>
                  <Icon name="close" size="small" />
                </button>
              </li>
            ))}
          </ul>
        )}
        <input
          ref={input}
          role="combobox"
          aria-label="Filter events"
          aria-expanded={isListed}
          aria-controls={`${id}list`}
          aria-activedescendant={chosen ? `${id}${active}` : undefined}
          aria-autocomplete="list"
          aria-invalid={wrong !== null}
          aria-describedby={wrong ? `${id}wrong` : undefined}
          placeholder="user=John, CreateUser, is:failure"
          autoComplete="off"
          autoCapitalize="off"
          spellCheck={false}
          value={typed}
          onChange={({ target }) => change(target.value)}
          onClick={() => setOpen(true)}
          onBlur={() => setOpen(false)}
          onKeyDown={onKeyDown}
        />
      </div>
      {isListed && <Suggestions id={id} suggestions={suggestions} active={active} onActive={setActive} onTake={take} />}
      {wrong && (
        <p id={`${id}wrong`} className="filter-wrong" role="alert">
          {visible(wrong.message)}
        </p>
      )}
    </div>
  );
}

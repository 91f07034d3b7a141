import { type CSSProperties, type ReactNode, useEffect, useRef } from "react";
import { visible } from "../text/visible";

interface Props<S> {
  /** The list has the id `${id}list`, an option `${id}` and its index. */
  id: string;
  suggestions: readonly S[];
  /** Index of the chosen suggestion; -1: none. */
  active: number;
  onActive: (index: number) => void;
  onTake: (suggestion: S) => void;
  style?: CSSProperties;
}

/** The suggestions for a field, which keeps the focus. */
export function Suggestions<S extends { text: string; detail: string }>({ id, suggestions, active, onActive, onTake, style }: Props<S>): ReactNode {
  const list = useRef<HTMLUListElement>(null);
  useEffect(() => {
    list.current?.children[active]?.scrollIntoView?.({ block: "nearest" });
  }, [active]);
  return (
    <ul ref={list} id={`${id}list`} role="listbox" aria-label="Suggestions" style={style}>
      {suggestions.map((suggestion, index) => (
        <li
          key={suggestion.text}
          id={`${id}${index}`}
          role="option"
          aria-selected={index === active}
          onMouseMove={() => onActive(index)}
          onMouseDown={(event) => event.preventDefault()}
          onClick={() => onTake(suggestion)}
        >
          <span>{visible(suggestion.text)}</span> <span className="secondary">{visible(suggestion.detail)}</span>
        </li>
      ))}
    </ul>
  );
}

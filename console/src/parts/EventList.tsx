import Icon from "@cloudscape-design/components/icon";
import { type CSSProperties, type KeyboardEvent, memo, type MouseEvent, type ReactNode, type RefObject, useEffect, useMemo, useRef, useState } from "react";
import { useOrigins } from "../api/origins";
import type { Event, Origin } from "../api/types";
import { useKeys } from "../app/keys";
import { usePreferences } from "../app/preferences";
import { href, navigate } from "../app/router";
import { visible } from "../text/visible";
import { type Column, columnsOf, headOf, PRESETS, type Times, tracksOf } from "./columns";

/** Words between events. */
export interface Note {
  key: string;
  note: ReactNode;
}

interface Props {
  label: string;
  items: readonly (Event | Note)[];
  /** Ids of the columns. */
  shown?: readonly string[];
  /** The event shown next to the list. */
  open?: string | null;
  /** Called on a click on an event; without it the event opens as a page. */
  onOpen?: (id: string) => void;
  /** A string to highlight in sentences. */
  mark?: string | null;
  selected?: readonly Event[];
  onSelect?: (events: Event[]) => void;
  /** Whether this is the page's main list, where the keys j and k work with any focus. */
  isMain?: boolean;
  empty?: ReactNode;
}

/** Words of a sentence that rows leave out, since other columns or the event itself show them. */
const UNSEEN = new Set(["actor-type", "session", "method", "refusal"]);

/** Events, one on a line. It is one stop of the Tab key; the arrow keys move between its rows. */
export function EventList({ label, items, shown = PRESETS.Sentences, open = null, onOpen, mark = null, selected, onSelect, isMain = false, empty }: Props): ReactNode {
  const times = useTimes();
  const [active, setActive] = useState<string | null>(null);
  const grid = useRef<HTMLDivElement>(null);
  const latest = useRef<Handlers>({});
  latest.current = { onOpen, onToggle: onSelect && ((event) => onSelect(toggled(selected ?? [], event))) };
  const columns = columnsOf(shown);
  const events = items.filter(isEvent);
  const originOf = useOrigins(events);
  const reachable = events.some(({ eventId }) => eventId === active) ? active : (events[0]?.eventId ?? null);

  const focus = (id: string): void => {
    const row = rowOf(grid.current, id);
    row?.querySelector("a")?.focus({ preventScroll: true });
    row?.scrollIntoView?.({ block: "nearest" });
  };
  const moveTo = (index: number): void => {
    const event = events[Math.min(Math.max(index, 0), events.length - 1)];
    if (!event) return;
    focus(event.eventId);
    if (open !== null && onOpen) onOpen(event.eventId);
  };
  const place = (): number => events.findIndex(({ eventId }) => eventId === rowWithFocus(grid.current));
  const move = (by: number): void => {
    const from = place();
    const start = from < 0 ? events.findIndex(({ eventId }) => eventId === open) : from;
    moveTo(start + by);
  };
  const toggle = (): void => {
    const event = events[place()];
    if (event) latest.current.onToggle?.(event);
  };

  useKeys(isMain ? { j: () => move(1), k: () => move(-1), x: toggle } : {});
  const before = useRef(open);
  useEffect(() => {
    if (open !== null) {
      setActive(open);
      rowOf(grid.current, open)?.scrollIntoView?.({ block: "nearest" });
    } else if (before.current !== null && (document.activeElement === document.body || !document.activeElement)) focus(before.current);
    before.current = open;
  }, [open]);

  const onKeyDown = (event: KeyboardEvent): void => {
    const to = { ArrowDown: () => move(1), ArrowUp: () => move(-1), Home: () => moveTo(0), End: () => moveTo(events.length - 1), " ": toggle }[event.key];
    if (!to || event.ctrlKey || event.metaKey || event.altKey || (event.key === " " && (!onSelect || isControl(event.target)))) return;
    event.preventDefault();
    event.stopPropagation();
    to();
  };

  const tracks = (some: Column[]): string => `${onSelect ? "20px " : ""}${tracksOf(some, events, times)}`;
  const style = { "--tracks": tracks(columns), "--narrow-tracks": tracks(columns.filter(({ id }) => id !== "ip")) };
  return (
    <div className={`events${columns.length > PRESETS.AWS.length ? " scrolls" : ""}`}>
      <div
        ref={grid}
        role="grid"
        aria-label={label}
        aria-rowcount={events.length + 1}
        aria-multiselectable={onSelect ? true : undefined}
        className="events-grid"
        style={style as CSSProperties}
        onKeyDown={onKeyDown}
        onFocus={({ target }) => setActive(rowAround(target)?.dataset.row ?? active)}
      >
        <div role="row" className="events-head">
          {onSelect && (
            <span role="columnheader" className="events-select">
              <input
                type="checkbox"
                tabIndex={-1}
                aria-label="Select all events of this page"
                checked={events.length > 0 && selected?.length === events.length}
                onChange={({ target }) => onSelect(target.checked ? events : [])}
              />
            </span>
          )}
          {columns.map((column) => (
            <span key={column.id} role="columnheader" className={`events-${column.id}`}>
              {headOf(column, times)}
            </span>
          ))}
        </div>
        {items.map((item) =>
          isEvent(item) ? (
            <Row
              key={item.eventId}
              event={item}
              origin={originOf(item) ?? null}
              columns={shown.join()}
              times={times}
              mark={mark}
              isOpen={item.eventId === open}
              isReachable={item.eventId === reachable}
              isSelected={onSelect ? Boolean(selected?.some(({ eventId }) => eventId === item.eventId)) : null}
              handlers={latest}
            />
          ) : (
            <div key={item.key} role="row" className="events-note">
              <span role="gridcell" aria-colspan={columns.length}>
                {item.note}
              </span>
            </div>
          ),
        )}
      </div>
      {!items.length && <div className="events-empty">{empty ?? "No events"}</div>}
    </div>
  );
}

/** The page's current handlers, which previously drawn rows also use. */
interface Handlers {
  onOpen?: (id: string) => void;
  onToggle?: (event: Event) => void;
}

interface RowProps {
  event: Event;
  /** The original caller behind its temporary credentials, if known. */
  origin: Origin | null;
  /** Ids of the columns; equal ids are the same value. */
  columns: string;
  times: Times;
  mark: string | null;
  isOpen: boolean;
  isReachable: boolean;
  /** null: rows cannot be selected. */
  isSelected: boolean | null;
  handlers: RefObject<Handlers>;
}

/** A row. It is redrawn only when its data changes. */
const Row = memo(
  function Row({ event, origin, columns, times, mark, isOpen, isReachable, isSelected, handlers }: RowProps): ReactNode {
    const shown = columnsOf(columns.split(","));
    const main = shown.some(({ id }) => id === "what") ? "what" : shown.some(({ id }) => id === "name") ? "name" : shown[0]?.id;
    const target = href(`/events/${encodeURIComponent(event.eventId)}`);
    const onClick = (click: MouseEvent<HTMLElement>): void => {
      if (click.ctrlKey || click.metaKey || click.shiftKey || click.altKey || isControl(click.target)) return;
      // The end of a selection of text is not a click on the row.
      const marked = window.getSelection();
      if (click.detail && marked && !marked.isCollapsed && marked.containsNode(click.currentTarget, true)) return;
      click.preventDefault();
      if (handlers.current.onOpen) handlers.current.onOpen(event.eventId);
      else navigate(target);
    };
    return (
      <div
        role="row"
        data-row={event.eventId}
        className={`events-row${isOpen ? " open" : ""}`}
        aria-current={isOpen || undefined}
        aria-selected={isSelected ?? undefined}
        onClick={onClick}
      >
        {isSelected !== null && (
          <span role="gridcell" className="events-select">
            <input type="checkbox" tabIndex={-1} checked={isSelected} aria-label={`Select ${visible(event.sentence)}`} onChange={() => handlers.current.onToggle?.(event)} />
          </span>
        )}
        {shown.map((column) => (
          <span key={column.id} role="gridcell" className={`events-${column.id}`} title={(column.hover ?? column.text)(event, times) || undefined}>
            {column.id === main ? (
              <a href={target} tabIndex={isReachable ? 0 : -1} aria-label={column.id === "what" ? undefined : column.text(event, times)}>
                <Cell column={column} event={event} origin={origin} times={times} mark={mark} />
              </a>
            ) : (
              <Cell column={column} event={event} origin={origin} times={times} mark={mark} />
            )}
          </span>
        ))}
      </div>
    );
  },
  (before, after) =>
    before.event.eventId === after.event.eventId &&
    before.origin === after.origin &&
    before.columns === after.columns &&
    before.times === after.times &&
    before.mark === after.mark &&
    before.isOpen === after.isOpen &&
    before.isReachable === after.isReachable &&
    before.isSelected === after.isSelected,
);

interface CellProps {
  column: Column;
  event: Event;
  origin: Origin | null;
  times: Times;
  mark: string | null;
}

function Cell({ column, event, origin, times, mark }: CellProps): ReactNode {
  if (column.id === "what") return <Clause event={event} origin={origin} mark={mark} />;
  const text = column.text(event, times);
  if (!column.cell) return text;
  return (
    <>
      {column.cell(event)}
      {column.id === "method" && text && <span className="hidden">{text}</span>}
    </>
  );
}

/** An event's clause in a row: caller, action, resource, and original caller. */
function Clause({ event, origin, mark }: { event: Event; origin: Origin | null; mark: string | null }): ReactNode {
  const [caller, rest] = splitAtCaller(event);
  const object = rest.findIndex(({ kind }) => kind === "object");
  const target = object < 0 ? rest.length : object;
  return (
    <>
      <span className="caller">
        <Words parts={caller} mark={mark} />
      </span>
      {origin && <Behind origin={origin} />}
      <span>
        <Words parts={rest.slice(0, target)} mark={mark} />
      </span>
      <span className="target">
        <Words parts={rest.slice(target, target + 1)} mark={mark} />
      </span>
      <span className="remainder">
        <Words parts={rest.slice(target + 1)} mark={mark} />
      </span>
    </>
  );
}

function Words({ parts, mark = null }: { parts: Event["parts"]; mark?: string | null }): ReactNode {
  return parts.map(({ kind, text }, index) => {
    const words = visible(text);
    if (UNSEEN.has(kind)) {
      return (
        <span key={index} className="hidden">
          {words}
        </span>
      );
    }
    if (kind !== "actor" && kind !== "object") return <Marked key={index} text={words} mark={mark} />;
    // Truncates a caller at its end, unless the match is there.
    const isCut = words.length > LONG && (kind === "object" || placeOf(words, mark) >= 0);
    return (
      <b key={index} className={isCut ? `${kind} long` : kind}>
        {isCut ? <Name text={words} mark={mark} /> : <Marked text={words} mark={mark} />}
      </b>
    );
  });
}

function placeOf(text: string, mark: string | null): number {
  return mark ? text.toLowerCase().indexOf(mark.toLowerCase()) : -1;
}

/** Maximum letters of a name that is not truncated in its middle. */
const LONG = 24;
/** Letters at the end of a long name that are always visible. */
const KEPT = 12;

/** A long name, truncated in its middle unless the match is there. */
function Name({ text, mark }: { text: string; mark: string | null }): ReactNode {
  const place = placeOf(text, mark);
  const start = place < 0 ? Math.max(text.length - KEPT, 0) : place;
  const end = place < 0 || !mark ? text.length : place + mark.length;
  return (
    <>
      {start > 0 && <span>{text.slice(0, start)}</span>}
      <span className="kept">{place < 0 ? text.slice(start) : <mark>{text.slice(start, end)}</mark>}</span>
      {end < text.length && <span>{text.slice(end)}</span>}
    </>
  );
}

/** The original caller behind a role or a federated user. */
function Behind({ origin }: { origin: Origin }): ReactNode {
  return (
    <span className="chip" title={`Behind it: ${visible(origin.words)}`}>
      <span className="hidden">, behind it </span>
      <Icon name={origin.kind === "human" ? "user-profile" : "settings"} size="small" />
      <Words parts={origin.parts} />
      <span className="hidden">,</span>
    </span>
  );
}

/** The words of a clause for the caller, and for its action. */
function splitAtCaller({ parts }: Event): [Event["parts"], Event["parts"]] {
  const space = parts.findIndex(({ text }) => text === " ");
  return [parts.slice(0, Math.max(space, 0)), parts.slice(Math.max(space, 0))];
}

/** Text with each occurrence of a string highlighted, in any case. */
function Marked({ text, mark }: { text: string; mark: string | null }): ReactNode {
  if (!mark) return text;
  const pieces = text.split(new RegExp(`(${mark.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")})`, "i"));
  return pieces.map((piece, index) => (index % 2 ? <mark key={index}>{piece}</mark> : piece));
}

const TICK = 30_000;

/** Relative times keep counting while they are shown. */
function useTimes(): Times {
  const { zone, relative } = usePreferences();
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (!relative) return undefined;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), TICK);
    return () => clearInterval(timer);
  }, [relative]);
  return useMemo(() => ({ zone, now: relative ? now : null }), [zone, relative, now]);
}

function isEvent(item: Event | Note): item is Event {
  return "eventId" in item;
}

function toggled(selected: readonly Event[], event: Event): Event[] {
  const without = selected.filter(({ eventId }) => eventId !== event.eventId);
  return without.length < selected.length ? without : [...selected, event];
}

function rowOf(grid: HTMLElement | null, id: string): HTMLElement | null {
  return [...(grid?.querySelectorAll<HTMLElement>("[data-row]") ?? [])].find((row) => row.dataset.row === id) ?? null;
}

function rowAround(target: EventTarget | null): HTMLElement | null {
  return target instanceof Element ? target.closest<HTMLElement>("[data-row]") : null;
}

function rowWithFocus(grid: HTMLElement | null): string | undefined {
  const row = rowAround(document.activeElement);
  return row && grid?.contains(row) ? row.dataset.row : undefined;
}

/** Whether a control takes keys and clicks for itself. */
function isControl(target: EventTarget | null): boolean {
  return target instanceof Element && target.closest("input, button") !== null;
}

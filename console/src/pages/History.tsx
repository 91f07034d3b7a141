import Alert from "@cloudscape-design/components/alert";
import Button from "@cloudscape-design/components/button";
import ButtonDropdown from "@cloudscape-design/components/button-dropdown";
import ToggleButton from "@cloudscape-design/components/toggle-button";
import { type ReactNode, type RefObject, useEffect, useMemo, useRef, useState } from "react";
import { address, get, type Query } from "../api/client";
import { closedGate } from "../api/gate";
import type { Event, Histogram, NameAnswer, Page, SearchOverview, ViewState } from "../api/types";
import { type Call, useCall } from "../api/useCall";
import { For } from "../app/For";
import { useKeys } from "../app/keys";
import { useNarrow, useWide } from "../app/narrow";
import { onDemand } from "../app/onDemand";
import { usePanel } from "../app/panel";
import { setPreferences, usePreferences } from "../app/preferences";
import { changeQuery, href, navigate, useRoute } from "../app/router";
import { type Conditions, naming, type Range, rangeParts, rangeSince, setExpression, setRange, sinceOf, textIn, toQuery, useConditions } from "../filter/conditions";
import { read, useTerms } from "../filter/expression";
import { FilterBar } from "../filter/FilterBar";
import { LASTS, RangeChooser, rangeText } from "../filter/RangeChooser";
import { columnsOf, PRESETS } from "../parts/columns";
import { copyText } from "../parts/Copy";
import { EventList, type Note } from "../parts/EventList";
import { openGroups } from "../parts/facetGroups";
import { Problem } from "../parts/Problem";
import { OUTCOMES, TimeChart } from "../parts/TimeChart";
import { number } from "../text/time";
import { visible } from "../text/visible";

const AnswerCard = onDemand(() => import("../parts/AnswerCard"));
const EventPanel = onDemand(() => import("../parts/EventPanel"));
const ColumnChooser = onDemand(() => import("../parts/ColumnChooser"));
const Compare = onDemand(() => import("../parts/Compare"));
const Empty = onDemand(() => import("../parts/Empty"));
const ViewMenu = onDemand(() => import("../parts/ViewMenu"), <span style={{ width: 32 }} />);
const Facets = onDemand(() => import("../parts/Facets"), <aside className="facets" aria-label="Facets" />);

const NEWER_INTERVAL = 5_000;
const MAX_NEWER = 200;
/** A constant list, so that effects do not run again. */
const NONE: Event[] = [];
const MAX_COMPARED = 5;
const BESIDE_A_PANEL = new Set(["time", "method", "what", "name", "result"]);
const BUCKETS = 60;

export default function History(): ReactNode {
  const { conditions: given, now, key } = useConditions();
  const { query: address } = useRoute();
  const { zone, chart, facets, columns: chosen, pageSize } = usePreferences();
  const [refreshed, setRefreshed] = useState(0);
  const [wider, setWider] = useState<{ key: string; range: Range } | null>(null);
  const widened = wider?.key === key ? wider.range : null;
  const conditions = useMemo(() => (widened ? { ...given, range: widened } : given), [given, widened]);
  const query = useMemo(() => toQuery(conditions, refreshed || now), [conditions, now, refreshed]);
  const isWide = useWide();
  const isNarrow = useNarrow();
  const cursor = address.get("cursor");
  const open = address.get("event");
  const isTight = isNarrow || open !== null;
  const picked = columnsIn(address.get("columns")) ?? chosen;
  const shown = columnsBeside(open !== null, picked ?? PRESETS.Sentences);
  const terms = useTerms(conditions.expression);
  const text = textIn(terms);
  // The index finds a name. A word search reads all events, so it starts after that answer.
  const answered = useMemo(closedGate, [conditions.expression]);
  const answer = useCall(text === null ? null : (signal) => get<NameAnswer>("answer", { name: text }, signal).finally(answered.open), [text, answered]);
  // Counting reads all events of a search, so it starts after the first page.
  const rows = useMemo(closedGate, [query]);
  const page = useCall(
    async (signal) => {
      if (textIn((await read(conditions.expression, signal)).terms) !== null) await answered.opened;
      // The server counts a span back from the time of the first page, which each cursor has.
      return get<Page>("events/rows", { ...query, since: conditions.range.last ?? query.since, limit: pageSize, cursor }, signal)
        .then((found) => ({ ...found, query }))
        .finally(rows.open);
    },
    [query, cursor, pageSize],
  );
  const isCurrent = page.data?.query === query;
  const isBare = given.isAuto && !widened && !cursor && isCurrent && page.data?.events.length === 0;
  const newest = useCall(
    isBare ? (signal) => get<Page>("events/rows", { ...query, since: null, limit: 1 }, signal) : null,
    [page.data, isBare],
  );
  useEffect(() => {
    const time = newest.data?.events[0]?.eventTime;
    if (time) setWider({ key, range: rangeSince(time, LASTS.map(([id]) => id), refreshed || now) });
  }, [newest.data]);
  const isWidening = isBare && !newest.error && newest.data?.events.length !== 0;
  const [opened, setOpened] = useState<readonly string[]>([]);
  const groups = openGroups(opened);
  const fields = groups.join(",");
  const overview = useCall(
    isWidening ? null : (signal) => rows.opened.then(() => get<SearchOverview>("events/overview", { ...query, buckets: BUCKETS, fields }, signal)),
    [query, fields, isWidening],
  );
  const count = overview.data?.count ?? null;
  const isCounting = overview.loading && overview.data !== null;
  const name = text === null ? null : (answer.data?.name ?? null);
  const named = useCall(
    name === null || cursor ? null : (signal) => get<Page>("events/rows", { ...query, expression: naming(terms, name), limit: pageSize }, signal),
    [query, name, cursor, pageSize],
  );
  const events = useMemo(() => namedFirst(named.data?.events ?? NONE, page.data?.events ?? NONE), [named.data, page.data]);
  const [selected, setSelected] = useState<Event[]>([]);
  const [comparing, setComparing] = useState(false);
  const newer = useNewer(query, cursor || overview.loading || !isCurrent ? null : page.data);
  const isNoneRecent = widened && !cursor && !newer && page.data?.events.every(({ eventTime }) => eventTime < sinceOf("1d", refreshed || now));
  const items = useMemo(() => withNote(events, named.data?.events.length ?? 0, text), [events, named.data, text]);
  const [list, onEnter] = useFocusAfter(page.data, named.loading || isWidening || !isCurrent);
  const show = (id: string | null): void => {
    // A phone has no room next to the list.
    if (isNarrow && id !== null) navigate(href(`/events/${encodeURIComponent(id)}`));
    else changeQuery({ event: id }, { replace: open !== null && id !== null });
  };
  const refresh = (): void => {
    changeQuery({ cursor: null });
    setRefreshed(Date.now());
  };

  usePanelFor(open, events, show);
  useKeys({
    c: () => selected.length > 1 && setComparing(true),
    f: () => setPreferences({ facets: !facets }),
    h: () => setPreferences({ chart: !chart }),
    r: refresh,
    y: () => void copyText(absoluteLink(query)),
    ...(open && { Escape: () => show(null), "]": () => step(events, open, 1, show), "[": () => step(events, open, -1, show) }),
  });

  const isSlow = useSlow(page.loading);
  return (
    <div className={facets && isWide && open === null ? "history with-facets" : "history"}>
      {facets && isWide && open === null && (
        <Facets
          values={overview.data?.facets ?? null}
          isCounting={isCounting}
          open={groups}
          onOpen={(name) => setOpened([...opened, name])}
          expression={conditions.expression}
          terms={terms}
          hasAgents={events.some(({ agent }) => agent !== null)}
        />
      )}
      <div className="history-list">
        <div className="title-line">
          <h1 className={isCounting ? "dimmed" : undefined}>
            Event history
            {count !== null && ` (${number(count)})`}
          </h1>
          <span className="hidden" role="status">
            {count !== null && `${number(count)} ${count === 1 ? "event" : "events"}`}
          </span>
          {!isNarrow && <span className="secondary">{summary(conditions, page.data, isNoneRecent ? zone : null)}</span>}
          <div className="end">
            <Paging page={page.data} newer={newer} onRefresh={refresh} cursor={cursor} range={given.isAuto ? conditions.range : null} />
            {!isNarrow && <Button onClick={() => navigate(href("/live", { expression: conditions.expression }))}>Live</Button>}
          </div>
        </div>
        <Ignored parts={conditions.ignored} />
        <div className="toolbar">
          {isWide && open === null && (
            <ToggleButton
              variant="icon"
              iconName="side-bar"
              pressed={facets}
              ariaLabel="Facets"
              onChange={({ detail }) => setPreferences({ facets: detail.pressed })}
            />
          )}
          <div className="grow">
            <FilterBar expression={conditions.expression} onChange={setExpression} onEnter={onEnter} onLeave={() => focusRow(list.current)} />
          </div>
          <RangeChooser range={conditions.range} zone={zone} isShort={isTight} onChange={setRange} />
          <ButtonDropdown
            {...(isTight && { variant: "icon", iconName: "filter", ariaLabel: conditions.all ? "All events" : "Management" })}
            items={[
              { id: "management", text: "Management events" },
              { id: "all", text: "Management and data events" },
            ]}
            onItemClick={({ detail }) => changeQuery({ categories: detail.id === "all" ? "all" : null, cursor: null })}
          >
            {isTight ? null : conditions.all ? "All events" : "Management"}
          </ButtonDropdown>
          <Actions query={query} selected={selected} onCompare={() => setComparing(true)} onRefresh={refresh}>
            <ViewMenu state={stateOf(conditions, picked ?? PRESETS.Sentences)} zone={zone} />
            <ColumnButton shown={picked ?? PRESETS.Sentences} />
          </Actions>
        </div>
        {chart && !isNarrow && (
          <div className={isCounting ? "dimmed" : undefined}>
            <Chart histogram={overview.data?.histogram ?? null} zone={zone} />
          </div>
        )}
        <Problem error={page.error ? null : overview.error} what="Events could not be counted" onRetry={overview.reload} />
        <Problem error={page.error} what="Events could not be loaded; the filter is unchanged" onRetry={page.reload} />
        {page.data && page.data.missing.length > 0 && (
          <Alert type="warning" header="Some events are missing here">
            {page.data.missing.map(visible).join(" · ")}
          </Alert>
        )}
        {answer.data && !cursor && <AnswerCard answer={answer.data} onOpen={show} />}
        <div ref={list} className={page.loading && isSlow && events.length ? "page-list dimmed" : "page-list"}>
          <EventList
            isMain
            label="Events"
            items={items}
            mark={text}
            shown={shown}
            open={open}
            onOpen={show}
            selected={selected}
            onSelect={setSelected}
            empty={<Nothing page={page} isWaiting={isWidening} isSlow={isSlow} conditions={conditions} query={query} cursor={cursor} />}
          />
        </div>
        {page.data && (page.data.next || cursor) && (
          <div className="toolbar">
            <Paging page={page.data} newer={0} onRefresh={refresh} cursor={cursor} range={given.isAuto ? conditions.range : null} />
          </div>
        )}
      </div>
      {comparing && <Compare events={selected.slice(0, MAX_COMPARED)} onClose={() => setComparing(false)} />}
    </div>
  );
}

/** Moves the focus from the filter to the first row of the next page, once all its events have loaded. */
function useFocusAfter(page: Page | null, isLoading: boolean): [RefObject<HTMLDivElement | null>, () => void] {
  const list = useRef<HTMLDivElement>(null);
  const [before, setBefore] = useState<{ page: Page | null } | null>(null);
  useEffect(() => {
    if (!before || page === before.page || isLoading) return;
    setBefore(null);
    const focused = document.activeElement;
    if (focused === document.body || list.current?.contains(focused)) focusRow(list.current, true);
  }, [before, page, isLoading]);
  const onEnter = (): void => {
    blur();
    setBefore({ page });
  };
  return [list, onEnter];
}

/** Moves the focus to the first row, or to the row that had it last. */
function focusRow(list: HTMLElement | null, isFirst = false): void {
  const row = list?.querySelector<HTMLElement>(`[data-row] a${isFirst ? "" : "[tabindex='0']"}`);
  if (row) row.focus();
  else blur();
}

function blur(): void {
  if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
}

/** Events that name the searched value, then events that contain it anywhere. */
function namedFirst(named: Event[], all: Event[]): Event[] {
  const known = new Set(named.map(({ eventId }) => eventId));
  return named.length ? [...named, ...all.filter(({ eventId }) => !known.has(eventId))] : all;
}

function withNote(events: Event[], named: number, text: string | null): (Event | Note)[] {
  if (!named || named === events.length || text === null) return events;
  const note = `Others have “${visible(text)}” inside other words or values`;
  return [...events.slice(0, named), { key: "others", note }, ...events.slice(named)];
}

interface NothingProps {
  page: Call<Page>;
  /** The page searches a longer range. */
  isWaiting: boolean;
  isSlow: boolean;
  conditions: Conditions;
  query: Query;
  cursor: string | null;
}

/** The content of an empty list. */
function Nothing({ page, isWaiting, isSlow, conditions, query, cursor }: NothingProps): ReactNode {
  if (page.loading || isWaiting || !page.data) return isSlow && !page.error ? "Loading events" : <>&nbsp;</>;
  return <Empty conditions={conditions} query={query} cursor={cursor} />;
}

/** Next to an open event, the list shows only time, method, sentence and error. */
function columnsBeside(isOpen: boolean, shown: readonly string[]): readonly string[] {
  return isOpen ? shown.filter((id) => BESIDE_A_PANEL.has(id)) : shown;
}

function columnsIn(text: string | null): string[] | null {
  if (text === null) return null;
  const found = columnsOf(text.split(",")).map(({ id }) => id);
  return found.length ? found : null;
}

/** The account and Region of the events; `zone` if the last 24 hours have no events. */
function summary(conditions: Conditions, page: Page | null, zone: string | null): string {
  const account = conditions.account ? `account ${visible(conditions.account)}` : "all accounts";
  const region = conditions.region ? visible(conditions.region) : "all Regions";
  const said = zone === null ? [] : [`None in the last 24 hours: ${rangeText(conditions.range, zone).toLowerCase()}`];
  const took = page ? [`${number(Math.round(page.tookMs))} ms`] : [];
  return [...said, `${account}, ${region}`.replace(/^a/, "A"), ...took].join(" · ");
}

function Ignored({ parts }: { parts: string[] }): ReactNode {
  const [closed, setClosed] = useState("");
  const text = parts.join(", ");
  if (!text || closed === text) return null;
  return (
    <Alert type="info" dismissible onDismiss={() => setClosed(text)}>
      These parts of the address are not valid and were ignored: {visible(text)}
    </Alert>
  );
}

/** True once loading takes longer than a moment: short waits do not flicker. */
function useSlow(loading: boolean): boolean {
  const [slow, setSlow] = useState(false);
  useEffect(() => {
    setSlow(false);
    if (!loading) return undefined;
    const timer = setTimeout(() => setSlow(true), 150);
    return () => clearTimeout(timer);
  }, [loading]);
  return slow;
}

/** The number of events that arrived since the first page loaded; they do not shift it. */
function useNewer(query: Query, page: Page | null): number {
  const { data } = useCall(
    page &&
      (async (signal) => {
        const top = page.events[0];
        const { events } = await get<Page>("events/rows", { ...query, since: top?.eventTime ?? query.since, limit: MAX_NEWER }, signal);
        const place = events.findIndex(({ eventId }) => eventId === top?.eventId);
        return { page, count: place < 0 ? events.length : place };
      }),
    [query, page],
    NEWER_INTERVAL,
    ({ count }) => count >= MAX_NEWER,
  );
  return data && data.page === page ? data.count : 0;
}

function usePanelFor(open: string | null, events: Event[], show: (id: string | null) => void): void {
  const setPanel = usePanel();
  const place = events.findIndex(({ eventId }) => eventId === open);
  useEffect(() => {
    if (open === null) return setPanel(null);
    setPanel((before) => ({
      ...before,
      onClose: () => show(null),
      content: (
        <EventPanel
          id={open}
          onOpen={show}
          onNewer={place > 0 ? () => step(events, open, -1, show) : undefined}
          onOlder={place >= 0 && place < events.length - 1 ? () => step(events, open, 1, show) : undefined}
        />
      ),
    }));
    return undefined;
  }, [open, events]);
  useEffect(() => () => setPanel(null), []);
}

function step(events: Event[], open: string, by: number, show: (id: string) => void): void {
  const next = events[events.findIndex(({ eventId }) => eventId === open) + by];
  if (next) show(next.eventId);
}

function absoluteLink(query: Query): string {
  const link = new URL(window.location.href);
  link.searchParams.delete("last");
  if (query.since) link.searchParams.set("since", String(query.since));
  link.searchParams.set("until", query.until ? String(query.until) : new Date().toISOString().replace(/\.\d+Z$/, "Z"));
  link.searchParams.set("expression", String(query.expression ?? ""));
  return link.href;
}

/** The state to save in a view; a relative range stays relative. */
function stateOf({ expression, range, account, region, all }: Conditions, columns: readonly string[]): ViewState {
  const { last, since, until } = range;
  const parts = { expression, last, since: last ? null : since, until: last ? null : until, account, region };
  const state = { ...parts, categories: all ? "all" : null, columns: columns.join(",") };
  return Object.fromEntries(Object.entries(state).filter(([, value]) => value !== null));
}

interface ActionsProps {
  query: Query;
  selected: Event[];
  onCompare: () => void;
  onRefresh: () => void;
  children: ReactNode;
}

function Actions({ query, selected, onCompare, onRefresh, children }: ActionsProps): ReactNode {
  const [copied, setCopied] = useState(false);
  const link = useRef<HTMLAnchorElement>(null);
  return (
    <div className="actions">
      {selected.length > 1 && (
        <Button onClick={onCompare} disabled={selected.length > MAX_COMPARED}>
          Compare {selected.length}
        </Button>
      )}
      <Button variant="icon" iconName="refresh" ariaLabel="Refresh" onClick={onRefresh} />
      <Button
        variant="icon"
        iconName={copied ? "check" : "share"}
        ariaLabel={copied ? "Copied" : "Copy link"}
        onClick={() => void copyText(absoluteLink(query)).then(setCopied)}
      />
      <For role="auditor">
        <ButtonDropdown
          variant="icon"
          iconName="download"
          ariaLabel="Download events"
          items={[
            { id: "csv", text: "CSV", secondaryText: "Formulas are neutralized" },
            { id: "json", text: "JSON" },
            { id: "ndjson", text: "NDJSON, one record per line" },
          ]}
          onItemClick={({ detail }) => {
            if (!link.current) return;
            link.current.href = address("export", { ...query, format: detail.id });
            link.current.click();
          }}
        />
      </For>
      {children}
      <a ref={link} className="hidden" download tabIndex={-1} aria-hidden="true">
        Download
      </a>
    </div>
  );
}

/** The cursor of the page from which "Older" led to each page; null is the newest page. */
const CAME_FROM = new Map<string, string | null>();

interface PagingProps {
  page: Page | null;
  newer: number;
  onRefresh: () => void;
  cursor: string | null;
  /** The default range, also of reloaded pages. */
  range: Range | null;
}

function Paging({ page, newer, onRefresh, cursor, range }: PagingProps): ReactNode {
  const turn = (to: string | null) => (): void => {
    changeQuery({ cursor: to, event: null, ...(range && rangeParts(range)) });
    window.scrollTo({ top: 0 });
  };
  const older = (): void => {
    if (!page?.next) return;
    CAME_FROM.set(page.next, cursor);
    turn(page.next)();
  };
  const cameFrom = cursor ? CAME_FROM.get(cursor) : undefined;
  return (
    <div className="actions">
      {newer > 0 && (
        <Button variant="inline-link" iconName="arrow-up" onClick={onRefresh}>
          {newer >= MAX_NEWER ? `${MAX_NEWER}+` : newer} newer
        </Button>
      )}
      {cursor && (
        <Button variant="inline-link" onClick={onRefresh}>
          Newest
        </Button>
      )}
      <Button variant="icon" iconName="angle-left" ariaLabel="Newer" disabled={cameFrom === undefined} onClick={turn(cameFrom ?? null)} />
      <Button variant="icon" iconName="angle-right" ariaLabel="Older" disabled={!page?.next} onClick={older} />
    </div>
  );
}

function Chart({ histogram, zone }: { histogram: Histogram | null; zone: string }): ReactNode {
  const points = useMemo(
    () => histogram?.buckets.map(({ time, ok, failed }) => ({ time: Date.parse(time), values: [ok, failed] })) ?? [],
    [histogram],
  );
  return (
    <TimeChart
      isSmall
      label="Events over time"
      points={points}
      step={(histogram?.seconds ?? 3600) * 1000}
      series={OUTCOMES}
      zone={zone}
      onSelect={(start, end) => setRange({ last: null, since: iso(start), until: iso(end - 1000) })}
    />
  );
}

function iso(time: number): string {
  return new Date(time).toISOString().replace(/\.\d+Z$/, "Z");
}

function ColumnButton({ shown }: { shown: readonly string[] }): ReactNode {
  const [open, setOpen] = useState(false);
  return (
    <>
      <Button variant="icon" iconName="settings" ariaLabel="Columns and page size" onClick={() => setOpen(true)} />
      {open && <ColumnChooser shown={shown} onClose={() => setOpen(false)} />}
    </>
  );
}

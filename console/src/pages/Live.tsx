import Alert from "@cloudscape-design/components/alert";
import Button from "@cloudscape-design/components/button";
import Header from "@cloudscape-design/components/header";
import SpaceBetween from "@cloudscape-design/components/space-between";
import StatusIndicator from "@cloudscape-design/components/status-indicator";
import { type ReactNode, useEffect, useMemo, useRef, useState } from "react";
import { ApiError } from "../api/client";
import { tail, type TailMessage } from "../api/tail";
import { useKeys } from "../app/keys";
import { useNarrow } from "../app/narrow";
import { onDemand } from "../app/onDemand";
import { usePanel } from "../app/panel";
import { changeQuery, href, navigate, useRoute } from "../app/router";
import { NO_RANGE, setExpression, toQuery, useConditions } from "../filter/conditions";
import { FilterBar } from "../filter/FilterBar";
import { EventList } from "../parts/EventList";
import { Problem } from "../parts/Problem";
import { number } from "../text/time";
import { EMPTY_TAIL, pause, receive, resume, type TailState } from "./tailBuffer";

const EventPanel = onDemand(() => import("../parts/EventPanel"));

/** New events as they arrive, the newest first. */
export default function Live(): ReactNode {
  const { conditions, key, now } = useConditions();
  const { query } = useRoute();
  const open = query.get("event");
  const { state, connected, error, setPaused } = useTail(key, () => toQuery({ ...conditions, range: NO_RANGE }, now));
  const setPanel = usePanel();
  const box = useRef<HTMLDivElement>(null);
  const leaveFilter = (): void => box.current?.focus();
  const toggle = (): void => setPaused(!state.paused);
  const isNarrow = useNarrow();
  const show = (id: string | null): void => changeQuery({ event: id }, { replace: true });
  useKeys({ " ": toggle, ...(open && { Escape: () => show(null) }) });
  useEffect(() => {
    if (!open) return setPanel(null);
    setPanel((before) => ({
      ...before,
      onClose: () => show(null),
      content: <EventPanel id={open} onOpen={show} />,
    }));
    return undefined;
  }, [open]);
  useEffect(() => () => setPanel(null), []);

  const items = useMemo(
    () =>
      state.rows.map((row) =>
        row.kind === "gap" ? { key: row.key, note: <Gap skipped={row.skipped} expression={conditions.expression} /> } : row.event,
      ),
    [state.rows, conditions.expression],
  );
  return (
    <SpaceBetween size="s">
      <Header
        variant="h1"
        counter={`(${number(state.rows.length)})`}
        actions={
          <SpaceBetween direction="horizontal" size="xs" alignItems="center">
            <StatusIndicator type={connected ? "success" : "in-progress"}>{connected ? "Connected" : "Connecting"}</StatusIndicator>
            <Button iconName={state.paused ? "play" : "pause"} onClick={toggle}>
              {state.paused ? "Resume" : "Pause"}
            </Button>
            <Button onClick={() => navigate(href("/events", { expression: conditions.expression }))}>Event history</Button>
          </SpaceBetween>
        }
      >
        Live
      </Header>
      <FilterBar expression={conditions.expression} onChange={setExpression} onEnter={leaveFilter} onLeave={leaveFilter} />
      <Problem error={error} what="Events cannot be followed with this filter" />
      {state.paused && (
        <Alert
          type="info"
          action={
            <Button
              onClick={() => {
                setPaused(false);
                box.current?.scrollTo({ top: 0 });
              }}
            >
              Resume
            </Button>
          }
        >
          Paused · {number(state.held.length)} new
        </Alert>
      )}
      <div
        className="live-rows"
        ref={box}
        tabIndex={0}
        role="region"
        aria-label="New events"
        onScroll={(event) => event.currentTarget.scrollTop > 40 && !state.paused && setPaused(true)}
      >
        <EventList
          label="New events"
          isMain
          items={items}
          open={open}
          onOpen={isNarrow ? undefined : show}
          empty="Waiting for events that match. Send a call, or change the filter."
        />
      </div>
    </SpaceBetween>
  );
}

/** Shows the number of events missing from the list. */
function Gap({ skipped, expression }: { skipped: number; expression: string }): ReactNode {
  return (
    <>
      {number(skipped)} events skipped, faster than they can be shown ·{" "}
      <button type="button" className="plain" onClick={() => navigate(href("/events", { expression }))}>
        Open in Event history
      </button>
    </>
  );
}

interface Tail {
  state: TailState;
  connected: boolean;
  error: ApiError | null;
  setPaused: (paused: boolean) => void;
}

/** Follows events while the page is visible; rows are shown once per frame however many arrive. */
function useTail(key: string, query: () => ReturnType<typeof toQuery>): Tail {
  const [state, setState] = useState(EMPTY_TAIL);
  const [connected, setConnected] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  const hidden = useHidden();
  const position = useRef<{ position: string | null; key: string }>({ position: null, key });
  useEffect(() => {
    if (position.current.key !== key) position.current = { position: null, key };
    setState((before) => ({ ...EMPTY_TAIL, paused: before.paused }));
    setError(null);
  }, [key]);
  useEffect(() => {
    if (hidden) return undefined;
    const abort = new AbortController();
    let waiting: TailMessage[] = [];
    let frame = 0;
    const draw = (): void => {
      frame = 0;
      const messages = waiting;
      waiting = [];
      setState((before) => receive(before, messages));
    };
    const run = async (): Promise<void> => {
      try {
        for await (const message of tail(query(), abort.signal, position.current, setConnected)) {
          waiting.push(message);
          frame ||= requestAnimationFrame(draw);
        }
      } catch (failure) {
        if (failure instanceof ApiError) setError(failure);
      }
    };
    void run();
    return () => {
      abort.abort();
      cancelAnimationFrame(frame);
      setConnected(false);
    };
  }, [key, hidden]);
  return { state, connected, error, setPaused: (paused) => setState(paused ? pause : resume) };
}

function useHidden(): boolean {
  const [hidden, setHidden] = useState(document.visibilityState === "hidden");
  useEffect(() => {
    const changed = (): void => setHidden(document.visibilityState === "hidden");
    document.addEventListener("visibilitychange", changed);
    return () => document.removeEventListener("visibilitychange", changed);
  }, []);
  return hidden;
}

import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import type { ReactNode } from "react";
import { get, type Query } from "../api/client";
import type { Count, Health, NearestValues, Page } from "../api/types";
import { useCall } from "../api/useCall";
import { usePreferences } from "../app/preferences";
import { changeQuery } from "../app/router";
import { type Conditions, setFilter, setRange } from "../filter/conditions";
import { type Filter, isGroup, literal, type Token, toExpression } from "../filter/expression";
import { number, stamp } from "../text/time";
import { visible } from "../text/visible";
import { type Cause, causeOf, type Findings, type Likeness, type Removal } from "./emptyCause";
import { FirstEvent } from "./FirstEvent";

interface Props {
  conditions: Conditions;
  query: Query;
  cursor: string | null;
}

const ALL_TIME = { last: null, since: null, until: null };

/** Says why there is nothing to show, and offers the step that shows something. */
export default function Empty({ conditions, query, cursor }: Props): ReactNode {
  const { zone } = usePreferences();
  const { data, error } = useCall((signal) => findings(conditions, query, signal), [query]);
  if (cursor) return <Step text="There are no events on this page." action="Newest events" onClick={() => changeQuery({ cursor: null })} />;
  if (error) return <Box>No events match.</Box>;
  if (!data) return <Spinner />;
  return <Reason cause={causeOf(data)} zone={zone} filter={conditions.filter} />;
}

function Reason({ cause, zone, filter }: { cause: Cause; zone: string; filter: Filter }): ReactNode {
  switch (cause.kind) {
    case "never":
      return <FirstEvent />;
    case "value":
      return (
        <Step
          text={`No event has the ${cause.likeness.label} ${visible(cause.likeness.value)}. Did you mean ${visible(cause.likeness.nearest)} (${number(cause.likeness.events)} ${cause.likeness.events === 1 ? "event" : "events"})?`}
          action={`Search for ${visible(cause.likeness.nearest)}`}
          onClick={() => setFilter(withValue(filter, cause.likeness))}
        />
      );
    case "range":
      return (
        <Step
          text={`No events match in this time range. The newest one that matches is of ${stamp(cause.newest, zone)}.`}
          action="Search all time"
          onClick={() => setRange(ALL_TIME)}
        />
      );
    case "filter":
      return (
        <Step
          text={`No events match. Without ${cause.removal.label}, ${number(cause.removal.count)} ${cause.removal.count === 1 ? "matches" : "match"}.`}
          action={`Remove ${cause.removal.label}`}
          onClick={() => setFilter(cause.removal.filter)}
        />
      );
    case "scope":
      return (
        <Step
          text="No events match in this account and Region. Elsewhere there are some."
          action="All accounts and Regions"
          onClick={() => changeQuery({ account: null, region: null })}
        />
      );
    case "nothing":
      return (
        <Step
          text="No events match. An event shows up within a few seconds of its call; data events are hidden unless you choose them."
          action="Remove all filters"
          onClick={() => changeQuery({ expression: "", last: null, since: null, until: null, categories: "all" })}
        />
      );
  }
}

function Step({ text, action, onClick }: { text: string; action: string; onClick: () => void }): ReactNode {
  return (
    <Box textAlign="center" padding="l">
      <SpaceBetween size="s">
        <Box>{text}</Box>
        <Button onClick={onClick}>{action}</Button>
      </SpaceBetween>
    </Box>
  );
}

async function findings(conditions: Conditions, query: Query, signal: AbortSignal): Promise<Findings> {
  const { filter, range, account, region } = conditions;
  const count = (other: Query): Promise<number> => get<Count>("events/count", { ...query, ...other }, signal).then(({ value }) => value);
  const hasRange = Boolean(range.last || range.since || range.until);
  const [health, likenesses, newest, elsewhere, ...removals] = await Promise.all([
    get<Health>("health", {}, signal),
    get<NearestValues>("events/nearest", { expression: query.expression }, signal),
    hasRange ? get<Page>("events/rows", { ...query, since: null, until: null, limit: 1 }, signal).then(({ events }) => events[0]?.eventTime ?? null) : null,
    account || region ? count({ account: null, region: null }) : 0,
    ...filter.tokens.map(async (_, index): Promise<Removal> => {
      const without: Filter = { ...filter, tokens: filter.tokens.filter((_part, other) => other !== index) };
      return { filter: without, label: label(filter, index), count: await count({ expression: toExpression(without) }) };
    }),
  ]);
  return { events: health.events, newest, elsewhere, removals, nearest: likenesses.nearest[0] ?? null };
}

/** A filter for another value. */
function withValue(filter: Filter, { value, nearest }: Likeness): Filter {
  const tokens = filter.tokens.map((part) => {
    if (isGroup(part)) return { ...part, tokens: part.tokens.map((token) => changed(token, value, nearest)) };
    return changed(part, value, nearest);
  });
  return { ...filter, tokens };
}

function changed(token: Token, value: string, nearest: string): Token {
  return token.operator === "=" && token.value === literal(value) ? { ...token, value: literal(nearest) } : token;
}

function label(filter: Filter, index: number): string {
  const part = filter.tokens[index];
  if (!part) return "";
  return `“${visible(toExpression({ operation: "and", tokens: [part] }))}”${isGroup(part) ? " (a group)" : ""}`;
}

import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import FormField from "@cloudscape-design/components/form-field";
import Header from "@cloudscape-design/components/header";
import Icon from "@cloudscape-design/components/icon";
import Input from "@cloudscape-design/components/input";
import Link from "@cloudscape-design/components/link";
import SegmentedControl from "@cloudscape-design/components/segmented-control";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import { type ReactNode, useState } from "react";
import { get } from "../api/client";
import type { Timeline as Answer, TimelineEntry } from "../api/types";
import { useCall } from "../api/useCall";
import { usePreferences } from "../app/preferences";
import { changeQuery, follow, href, navigate, useRoute } from "../app/router";
import { sinceOf } from "../filter/conditions";
import { literal } from "../filter/expression";
import { Problem } from "../parts/Problem";
import { stamp, zoneName } from "../text/time";
import { visible } from "../text/visible";

const PERIODS = { "1d": "Last day", "7d": "Last week", "30d": "Last 30 days", all: "All time" };

/** The history of a user, role, session or resource in sentences, newest first. */
export default function Timeline(): ReactNode {
  const { query } = useRoute();
  const name = query.get("name");
  return (
    <SpaceBetween size="l">
      <Header variant="h1" description="The history of a user, role, session or resource: calls to it and by it. Equal calls share an entry.">
        <span className="wrap">{name === null ? "Timeline" : visible(`Timeline of ${name}`)}</span>
      </Header>
      <NameForm key={name} name={name ?? ""} />
      {name !== null && <Entries name={name} kind={query.get("kind")} last={query.get("last") ?? "7d"} until={query.get("until")} />}
    </SpaceBetween>
  );
}

function NameForm({ name }: { name: string }): ReactNode {
  const [text, setText] = useState(name);
  return (
    <form onSubmit={(event) => (event.preventDefault(), text.trim() && navigate(href("/timeline", { name: text.trim() })))}>
      <div className="toolbar">
        <div className="grow">
          <FormField label="Name, ARN or access key">
            <Input type="search" value={text} placeholder="Mary" autoFocus={!name} onChange={({ detail }) => setText(detail.value)} />
          </FormField>
        </div>
        <FormField label={<span>&nbsp;</span>}>
          <Button variant="primary" disabled={!text.trim()} formAction="submit">
            Show
          </Button>
        </FormField>
      </div>
    </form>
  );
}

interface EntriesProps {
  name: string;
  kind: string | null;
  last: string;
  until: string | null;
}

function Entries({ name, kind, last, until }: EntriesProps): ReactNode {
  const { zone } = usePreferences();
  const known = last in PERIODS ? last : "7d";
  const { data, error, loading, reload } = useCall(
    (signal) => get<Answer>("timeline", { name, kind, since: known === "all" ? null : sinceOf(known, Date.now()), until }, signal),
    [name, kind, known, until],
  );
  const oldest = data?.entries[0];
  return (
    <SpaceBetween size="m">
      <SegmentedControl
        label="Period"
        selectedId={known}
        options={Object.entries(PERIODS).map(([id, text]) => ({ id, text }))}
        onChange={({ detail }) => changeQuery({ last: detail.selectedId, until: null })}
      />
      <Problem error={error} what="The timeline could not be loaded" onRetry={reload} />
      {loading && !data && <Spinner />}
      {data && !oldest && <Box color="text-body-secondary">No event of this period is about it.</Box>}
      {data && (
        <ol className="chain" aria-label={`Entries, times in ${zoneName(zone)}`}>
          {data.entries.toReversed().map((entry, index) => (
            <Entry key={`${entry.eventIds[0]} ${index}`} entry={entry} all={data.expression} />
          ))}
        </ol>
      )}
      {data && !data.complete && oldest && (
        <Box>
          <Link href={href("/timeline", { name, kind, last: known, until: oldest.first })} onFollow={follow}>
            Older entries
          </Link>
        </Box>
      )}
    </SpaceBetween>
  );
}

function Entry({ entry, all }: { entry: TimelineEntry; all: string }): ReactNode {
  const { zone } = usePreferences();
  const period = entry.first === entry.last ? stamp(entry.first, zone) : `${stamp(entry.first, zone)} to ${stamp(entry.last, zone)}`;
  const facts = [
    period,
    entry.agent && !entry.words.includes(entry.agent.name) && `by ${visible(entry.agent.name)}`,
    entry.behind && `behind it: ${visible(entry.behind)}`,
  ];
  return (
    <li>
      <Link href={addressOf(entry, all)} onFollow={follow}>
        <span className="wrap">{visible(entry.words)}</span>
      </Link>{" "}
      {entry.errorCode && <Icon name="status-negative" size="small" variant="error" ariaLabel="Failed" />}
      <div className="secondary">{facts.filter(Boolean).join(" · ")}</div>
    </li>
  );
}

/** The page of a single event, or the list of all events. */
function addressOf({ calls, eventIds, eventName, first, last }: TimelineEntry, all: string): string {
  if (calls === 1) return href(`/events/${encodeURIComponent(eventIds[0] ?? "")}`);
  const expression = `(${all}) AND eventName="${literal(eventName).replaceAll('"', '\\"')}"`;
  return href("/events", { expression, since: first, until: last, categories: "all" });
}

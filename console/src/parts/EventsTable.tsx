import Box from "@cloudscape-design/components/box";
import Table from "@cloudscape-design/components/table";
import type { ReactNode } from "react";
import type { Event } from "../api/types";
import { useNarrow } from "../app/narrow";
import { usePreferences } from "../app/preferences";
import { columns } from "./columns";

interface Props {
  label: string;
  events: Event[];
  shown: readonly string[];
  header?: ReactNode;
  empty?: string;
  variant?: "container" | "embedded" | "borderless";
  onOpen?: (event: Event) => void;
  loading?: boolean;
}

/** A short table of events, as pages other than the Event history show them. */
export function EventsTable({ label, events, shown, header, empty, variant = "container", onOpen, loading }: Props): ReactNode {
  const { zone, density } = usePreferences();
  const narrow = useNarrow();
  const all = columns({ zone, narrow, onOpen });
  // Where a table is as wide as a sentence, the sentence comes first.
  const ids = narrow && shown.includes("what") ? ["what", ...shown.filter((id) => id !== "what")] : shown;
  return (
    <Table
      items={events}
      columnDefinitions={ids.flatMap((id) => all.find((column) => column.id === id) ?? [])}
      trackBy="eventId"
      variant={variant}
      contentDensity={density}
      loading={loading && !events.length}
      loadingText="Loading events"
      header={header}
      wrapLines
      ariaLabels={{ tableLabel: label }}
      empty={<Box color="text-body-secondary">{empty ?? "No events"}</Box>}
    />
  );
}

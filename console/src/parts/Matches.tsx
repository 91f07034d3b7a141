import Box from "@cloudscape-design/components/box";
import Link from "@cloudscape-design/components/link";
import Table from "@cloudscape-design/components/table";
import type { ReactNode } from "react";
import type { DetectionMatch } from "../api/types";
import type { Call } from "../api/useCall";
import { useNarrow } from "../app/narrow";
import { usePreferences } from "../app/preferences";
import { follow, href } from "../app/router";
import { number, stamp, zoneName } from "../text/time";
import { show, visible } from "../text/visible";
import { Level } from "./Level";
import { eventsOf } from "./matchEvents";
import { Problem } from "./Problem";

interface Props {
  call: Call<{ matches: DetectionMatch[] }>;
  header?: ReactNode;
  /** Whether all matches belong to one rule, whose name is above them. */
  ofOne?: boolean;
}

/** Matches, newest first, each with a link to its events. */
export function Matches({ call: { data, error, loading, reload }, header, ofOne = false }: Props): ReactNode {
  const { density, zone } = usePreferences();
  const narrow = useNarrow();
  const columns = narrow ? [ofOne ? "time" : "rule", "events"] : ["time", ...(ofOne ? [] : ["rule", "level"]), "by", "place", "events"];
  return (
    <>
      <Problem error={error} what="Matches could not be loaded" onRetry={reload} />
      <Table
        variant={header ? "container" : "borderless"}
        items={data?.matches ?? []}
        wrapLines
        visibleColumns={columns}
        contentDensity={density}
        loading={loading && !data}
        loadingText="Loading matches"
        trackBy="eventId"
        ariaLabels={{ tableLabel: "Matches" }}
        header={header}
        columnDefinitions={[
          { id: "time", header: `Time (${zoneName(zone)})`, isRowHeader: true, cell: ({ eventTime }: DetectionMatch) => <span className="numbers">{stamp(eventTime, zone)}</span>, width: narrow ? undefined : 190 },
          {
            id: "rule",
            header: "Rule",
            cell: ({ rule, title, eventTime }) => (
              <>
                <Link href={href("/detections", { name: rule })} onFollow={follow}>
                  {visible(title)}
                </Link>
                {narrow && (
                  <Box variant="small" display="block">
                    {stamp(eventTime, zone)}
                  </Box>
                )}
              </>
            ),
          },
          { id: "level", header: "Level", cell: ({ level }) => <Level level={level} />, width: 120 },
          { id: "by", header: "Principals", cell: ({ principals }) => <span className="wrap">{show(principals.join(", "))}</span> },
          { id: "place", header: "Account, Region", cell: ({ account, region }) => `${visible(account)}, ${visible(region)}`, width: 200 },
          {
            id: "events",
            header: "Events",
            cell: (match) => (
              <Link href={eventsOf(match)} onFollow={follow}>
                {match.eventIds.length === 1 ? visible(match.eventName) : `${number(match.eventIds.length)} events`}
              </Link>
            ),
            width: narrow ? 160 : 190,
          },
        ]}
        empty={<Box color="text-body-secondary">No matches.</Box>}
      />
    </>
  );
}

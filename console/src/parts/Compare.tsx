import Modal from "@cloudscape-design/components/modal";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import Toggle from "@cloudscape-design/components/toggle";
import { type ReactNode, useState } from "react";
import { get } from "../api/client";
import type { Event, EventDetail } from "../api/types";
import { useCall } from "../api/useCall";
import { usePreferences } from "../app/preferences";
import { stamp } from "../text/time";
import { visible } from "../text/visible";
import { leaves, parseJson } from "./json";
import { Problem } from "./Problem";

/** Two to five events side by side, by default only where they differ. */
export default function Compare({ events, onClose }: { events: Event[]; onClose: () => void }): ReactNode {
  const { zone } = usePreferences();
  const [all, setAll] = useState(false);
  const { data, error, reload } = useCall(
    (signal) => Promise.all(events.map(({ eventId }) => get<EventDetail>(`events/${encodeURIComponent(eventId)}`, {}, signal))),
    [events],
  );
  const records = data?.map(({ record }) => new Map(leaves(parseJson(record)))) ?? [];
  const paths = [...new Set(records.flatMap((record) => [...record.keys()]))];
  const differs = (path: string): boolean => new Set(records.map((record) => record.get(path))).size > 1;
  return (
    <Modal visible onDismiss={onClose} header={`Compare ${events.length} events`} size="max">
      <SpaceBetween size="m">
        <Toggle checked={all} onChange={({ detail }) => setAll(detail.checked)}>
          Show what is equal too
        </Toggle>
        <Problem error={error} what="The events could not be loaded" onRetry={reload} />
        {!data && !error && <Spinner />}
        {data && (
          <div className="json" tabIndex={0} role="region" aria-label="Differences">
            <table className="plain-table">
              <thead>
                <tr>
                  <th scope="col">Member</th>
                  {events.map((event) => (
                    <th scope="col" key={event.eventId}>
                      {visible(event.eventName)}
                      <br />
                      {stamp(event.eventTime, zone)}
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {paths
                  .filter((path) => all || differs(path))
                  .map((path) => (
                    <tr key={path}>
                      <th scope="row">{visible(path)}</th>
                      {records.map((record, index) => (
                        <td key={index}>{visible(record.get(path)?.slice(0, 500) ?? "–")}</td>
                      ))}
                    </tr>
                  ))}
              </tbody>
            </table>
          </div>
        )}
      </SpaceBetween>
    </Modal>
  );
}

import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import SplitPanel from "@cloudscape-design/components/split-panel";
import type { ReactNode } from "react";
import { usePreferences } from "../app/preferences";
import { follow, href } from "../app/router";
import { spoken } from "../text/time";
import { visible } from "../text/visible";
import { Copy } from "./Copy";
import { EventTabs, useEvent } from "./EventView";
import { Problem } from "./Problem";

interface Props {
  id: string;
  onOpen: (id: string) => void;
  onNewer?: () => void;
  onOlder?: () => void;
}

/** An event next to the list it was opened from. */
export default function EventPanel({ id, onOpen, onNewer, onOlder }: Props): ReactNode {
  const { zone } = usePreferences();
  const { data, error, loading, reload } = useEvent(id);
  const current = data?.event.eventId === id ? data : null;
  return (
    <SplitPanel header={current ? visible(spoken(current.event, zone)) : "Event"} hidePreferencesButton closeBehavior="hide">
      <SpaceBetween size="s">
        <SpaceBetween direction="horizontal" size="xs">
          <Button iconName="angle-up" ariaLabel="Newer event" disabled={!onNewer} onClick={onNewer} />
          <Button iconName="angle-down" ariaLabel="Older event" disabled={!onOlder} onClick={onOlder} />
          <Button href={href(`/events/${encodeURIComponent(id)}`)} onFollow={follow}>
            Open as a page
          </Button>
          {current && (
            <Copy label="Copy the sentence" text={() => spoken(current.event, zone)}>
              Copy sentence
            </Copy>
          )}
        </SpaceBetween>
        <Problem
          error={error}
          what={error?.status === 404 ? "There is no event with this ID" : "The event could not be loaded"}
          onRetry={reload}
        />
        {loading && !current && (
          <Box textAlign="center">
            <Spinner />
          </Box>
        )}
        {current && <EventTabs detail={current} onOpen={onOpen} />}
      </SpaceBetween>
    </SplitPanel>
  );
}

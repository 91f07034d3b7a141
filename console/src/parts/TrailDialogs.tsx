import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import SpaceBetween from "@cloudscape-design/components/space-between";
import type { ReactNode } from "react";
import type { TrailSummary } from "../api/types";
import { visible } from "../text/visible";
import { Dialog } from "./Dialog";

export type Ending = "StopLogging" | "DeleteTrail";

interface Props {
  ending: Ending;
  trail: TrailSummary;
  /** Whether no other trail logs. */
  last: boolean;
  onCancel: () => void;
  onConfirm: () => void;
}

/** Asks before a trail no longer delivers events. */
export function EndTrail({ ending, trail, last, onCancel, onConfirm }: Props): ReactNode {
  const deletes = ending === "DeleteTrail";
  return (
    <Dialog
      header={deletes ? `Delete trail ${visible(trail.name)}?` : `Stop logging of trail ${visible(trail.name)}?`}
      action={deletes ? "Delete trail" : "Stop logging"}
      keep={deletes ? "Keep trail" : "Keep logging"}
      onCancel={onCancel}
      onAction={onConfirm}
    >
      <SpaceBetween size="s">
        <Box>
          {trail.logging ? "No more events are delivered to" : "Nothing changes in"} bucket {visible(trail.bucket)}. {deletes ? "The trail's settings are lost; its files stay." : "Its files stay."}{" "}
          Event history goes on, and has this call under your name.
        </Box>
        {last && trail.logging && <Alert type="warning">No other trail is logging: events will be in no bucket, and no digest will prove them.</Alert>}
      </SpaceBetween>
    </Dialog>
  );
}

import StatusIndicator from "@cloudscape-design/components/status-indicator";
import type { ReactNode } from "react";
import type { TrailSummary } from "../api/types";
import { visible } from "../text/visible";

const TYPES = { Logging: "success", Off: "stopped", Failing: "error" } as const;

export function TrailStatus({ trail, long }: { trail: TrailSummary; long?: boolean }): ReactNode {
  return (
    <StatusIndicator type={TYPES[trail.status]}>
      {trail.status}
      {long && trail.reason && `: ${visible(trail.reason)}`}
    </StatusIndicator>
  );
}

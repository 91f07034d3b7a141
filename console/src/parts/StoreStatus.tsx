import StatusIndicator, { type StatusIndicatorProps } from "@cloudscape-design/components/status-indicator";
import type { ReactNode } from "react";
import type { StoreSummary } from "../api/types";

const STATES: Record<StoreSummary["status"], [StatusIndicatorProps.Type, string]> = {
  ENABLED: ["success", "Enabled"],
  STOPPED_INGESTION: ["stopped", "Stopped"],
  PENDING_DELETION: ["warning", "Deleted"],
};

export function StoreStatus({ store }: { store: StoreSummary }): ReactNode {
  const [type, text] = STATES[store.status];
  return <StatusIndicator type={type}>{text}</StatusIndicator>;
}

import Box from "@cloudscape-design/components/box";
import FormField from "@cloudscape-design/components/form-field";
import Input from "@cloudscape-design/components/input";
import SpaceBetween from "@cloudscape-design/components/space-between";
import { type ReactNode, useState } from "react";
import type { StoreSummary } from "../api/types";
import { visible } from "../text/visible";
import { Dialog } from "./Dialog";

interface Props {
  store: StoreSummary;
  onCancel: () => void;
  onConfirm: () => void;
}

/** Asks before a store adds no more events. */
export function StopStore({ store, onCancel, onConfirm }: Props): ReactNode {
  return (
    <Dialog header={`Stop ingestion of ${visible(store.name)}?`} action="Stop ingestion" keep="Keep ingesting" onCancel={onCancel} onAction={onConfirm}>
      The store adds no events until you start ingestion again, and never adds those recorded in between. You can still query it.
    </Dialog>
  );
}

/** Asks for the name of a store before its deletion. */
export function DeleteStore({ store, onCancel, onConfirm }: Props): ReactNode {
  const [typed, setTyped] = useState("");
  const isConfirmed = typed === store.name;
  return (
    <Dialog
      header={`Delete event data store ${visible(store.name)}?`}
      action="Delete event data store"
      keep="Keep event data store"
      disabled={!isConfirmed}
      onCancel={onCancel}
      onAction={onConfirm}
    >
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (isConfirmed) onConfirm();
        }}
      >
        <SpaceBetween size="s">
          <Box>
            The store adds no more events, and you can no longer query it. You can restore it for seven days. After that, its events are lost. Event history is not affected.
          </Box>
          <FormField label={`Type ${visible(store.name)} to confirm`}>
            <Input value={typed} spellcheck={false} onChange={({ detail }) => setTyped(detail.value)} />
          </FormField>
        </SpaceBetween>
      </form>
    </Dialog>
  );
}

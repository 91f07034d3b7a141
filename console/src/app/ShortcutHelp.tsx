import Box from "@cloudscape-design/components/box";
import KeyValuePairs from "@cloudscape-design/components/key-value-pairs";
import Modal from "@cloudscape-design/components/modal";
import Toggle from "@cloudscape-design/components/toggle";
import SpaceBetween from "@cloudscape-design/components/space-between";
import type { ReactNode } from "react";
import { setPreferences, usePreferences } from "./preferences";

const KEYS = [
  ["Ctrl+K", "Search or jump to"],
  ["/", "Go to the filter"],
  ["t", "Choose a time range"],
  ["j, k, ↓, ↑", "Next, previous row"],
  ["Home, End", "First, last row"],
  ["Enter", "Open the event"],
  ["[, ]", "Newer, older event"],
  ["x, Space", "Select the row"],
  ["c", "Compare selected events"],
  ["y", "Copy a link"],
  ["f", "Show or hide the facets"],
  ["h", "Show or hide the chart"],
  ["r", "Refresh"],
  ["l", "Live"],
  ["Space", "Pause or resume Live"],
  ["Esc", "Leave the filter, close the panel"],
  ["Shift+← →", "Select a time in the chart"],
  ["?", "This help"],
] as const;

interface Props {
  pages: readonly { name: string; letter: string }[];
  onClose: () => void;
}

export default function ShortcutHelp({ pages, onClose }: Props): ReactNode {
  const { keys } = usePreferences();
  return (
    <Modal visible onDismiss={onClose} header="Keyboard shortcuts" size="medium">
      <SpaceBetween size="l">
        <KeyValuePairs
          columns={2}
          items={[...KEYS, ...pages.map(({ name, letter }) => [`g ${letter}`, name] as const)].map(([key, value]) => ({ label: <Box variant="code">{key}</Box>, value }))}
        />
        <Toggle checked={keys} onChange={({ detail }) => setPreferences({ keys: detail.checked })}>
          Use single-key shortcuts
        </Toggle>
      </SpaceBetween>
    </Modal>
  );
}

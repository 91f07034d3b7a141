import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import Modal from "@cloudscape-design/components/modal";
import SpaceBetween from "@cloudscape-design/components/space-between";
import { type ReactNode, useEffect, useRef, useState } from "react";
import type { ApiError } from "../api/client";
import { asApiError } from "../api/useCall";
import { Problem } from "./Problem";

interface Props {
  header: string;
  /** The label of the action button. */
  action: string;
  /** Label of the cancel button of a destructive dialog, where it is the primary button. */
  keep?: string;
  disabled?: boolean;
  loading?: boolean;
  onCancel: () => void;
  onAction: () => void;
  children: ReactNode;
}

/** A dialog with a Cancel button and an action button. */
export function Dialog({ header, action, keep, disabled, loading, onCancel, onAction, children }: Props): ReactNode {
  return (
    <Modal
      visible
      onDismiss={onCancel}
      header={header}
      footer={
        <Box float="right">
          <SpaceBetween direction="horizontal" size="xs">
            <Button variant={keep ? "primary" : "link"} onClick={onCancel}>
              {keep ?? "Cancel"}
            </Button>
            <Button variant={keep ? "normal" : "primary"} disabled={disabled} loading={loading} onClick={onAction}>
              {action}
            </Button>
          </SpaceBetween>
        </Box>
      }
    >
      <Content>{children}</Content>
    </Modal>
  );
}

/** Focuses its first text field, after the modal has focused its first button. */
function Content({ children }: { children: ReactNode }): ReactNode {
  const element = useRef<HTMLDivElement>(null);
  const [isOpen, setOpen] = useState(false);
  useEffect(() => setOpen(true), []);
  useEffect(() => {
    if (isOpen) element.current?.querySelector<HTMLElement>("input:not([type=checkbox], [type=radio]), textarea")?.focus();
  }, [isOpen]);
  return <div ref={element}>{children}</div>;
}

interface FormProps<T> {
  action: string;
  /** The message, followed by the reason, when the server refuses the action. */
  failed: string;
  disabled?: boolean;
  send: () => Promise<T>;
  onCancel: () => void;
  onSent: (answer: T) => void;
  children: ReactNode;
}

/** A dialog with fields, which stays open until the server has accepted them. */
export function FormDialog<T>({ action, failed, disabled, send, onCancel, onSent, children }: FormProps<T>): ReactNode {
  const [error, setError] = useState<ApiError | null>(null);
  const [busy, setBusy] = useState(false);
  const run = (): void => {
    setBusy(true);
    setError(null);
    send()
      .then(onSent, (failure) => setError(asApiError(failure)))
      .finally(() => setBusy(false));
  };
  return (
    <Dialog header={action} action={action} disabled={disabled} loading={busy} onCancel={onCancel} onAction={run}>
      <SpaceBetween size="m">
        {children}
        <Problem error={error} what={failed} />
      </SpaceBetween>
    </Dialog>
  );
}

import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import FormField from "@cloudscape-design/components/form-field";
import Input, { type InputProps } from "@cloudscape-design/components/input";
import Link from "@cloudscape-design/components/link";
import Modal from "@cloudscape-design/components/modal";
import SpaceBetween from "@cloudscape-design/components/space-between";
import { type ReactNode, useEffect, useRef, useState } from "react";
import { type ApiError, put, remove } from "../api/client";
import type { SavedView, ViewState } from "../api/types";
import { asApiError } from "../api/useCall";
import { For } from "../app/For";
import { href } from "../app/router";
import { useMay } from "../app/session";
import { rangeText } from "../filter/RangeChooser";
import { capitalized, oneLine, visible } from "../text/visible";
import { Problem } from "./Problem";

const MAX_NAME_LENGTH = 128;

interface Props {
  /** The state of the page, which "Save" stores. */
  state: ViewState;
  views: SavedView[];
  zone: string;
  onChange: () => void;
  onOpen: (state: ViewState) => void;
  onClose: () => void;
}

export function addressOf(state: ViewState): string {
  return href(state.statement === undefined ? "/events" : "/sql", { ...state });
}

/** The words for saved queries, or for saved views of event history. */
export function wordsOf({ statement }: ViewState): { one: string; many: string } {
  return statement === undefined ? { one: "view", many: "views" } : { one: "query", many: "queries" };
}

/** A view in words: its statement, or its filter and its time range. */
function described({ expression, last, since, until, account, region, statement }: ViewState, zone: string): string {
  if (statement !== undefined) return oneLine(statement);
  const range = rangeText({ last: last ?? null, since: since ?? null, until: until ?? null }, zone);
  return [expression || "all events", range, account && `account ${account}`, region].filter(Boolean).join(" · ");
}

/** Saves the page's state under a name; opens, replaces and deletes saved views. */
export default function SavedViews({ state, views, zone, onChange, onOpen, onClose }: Props): ReactNode {
  const [name, setName] = useState("");
  const [error, setError] = useState<ApiError | null>(null);
  const [failed, setFailed] = useState("");
  const [busy, setBusy] = useState(false);
  const [done, setDone] = useState("");
  const field = useRef<InputProps.Ref>(null);
  // The dialog first gives the focus to its own first control.
  useEffect(() => {
    const timer = setTimeout(() => field.current?.focus(), 50);
    return () => clearTimeout(timer);
  }, []);
  const { one, many } = wordsOf(state);
  const wanted = name.trim().normalize("NFC");
  const present = views.find((view) => view.name === wanted);
  const run = (action: () => Promise<unknown>, said: string, otherwise: string): void => {
    setBusy(true);
    setError(null);
    setDone("");
    action()
      .then(
        () => {
          setDone(said);
          setName("");
        },
        (problem: unknown) => {
          setError(asApiError(problem));
          setFailed(otherwise);
        },
      )
      .finally(() => {
        setBusy(false);
        onChange();
      });
  };
  const path = (view: string): string => `views/${encodeURIComponent(view)}`;
  const save = (): void => {
    if (!wanted || busy) return;
    const body = { state, expected: present?.version ?? 0 };
    run(() => put(path(wanted), body), `${present ? "Replaced" : "Saved"}: ${wanted}`, `The ${one} was not saved`);
  };
  const mayChange = useMay("operator");
  return (
    <Modal
      visible
      onDismiss={onClose}
      header={`Saved ${many}`}
      footer={
        <Box float="right">
          <Button onClick={onClose}>Close</Button>
        </Box>
      }
    >
      <SpaceBetween size="l">
        <For role="operator">
        <form onSubmit={(event) => (event.preventDefault(), save())}>
          <SpaceBetween size="s">
            <FormField
              label={`Save this ${one} as`}
              description={
                <span className="wrap">
                  {visible(described(state, zone))}. {state.last ? "The range moves with the time. " : ""}Everyone who uses this console sees it.
                </span>
              }
            >
              <Input ref={field} value={name} placeholder="Failed sign-ins" onChange={({ detail }) => setName(detail.value.slice(0, MAX_NAME_LENGTH))} />
            </FormField>
            {present && <Alert type="warning">There is a {one} with this name: {visible(described(present.state, zone))}.</Alert>}
            <Button variant="primary" formAction="submit" disabled={!wanted} loading={busy}>
              {present ? "Replace" : "Save"}
            </Button>
          </SpaceBetween>
        </form>
        </For>
        {views.length === 0 && !mayChange && <Box>There are no saved {many}.</Box>}
        <Problem error={error} what={failed} />
        <div aria-live="polite">{done && <Box color="text-status-success">{visible(done)}</Box>}</div>
        {views.length > 0 && (
          <table className="plain-table">
            <caption className="hidden">Saved {many}</caption>
            <thead>
              <tr>
                <th scope="col">{capitalized(one)}</th>
                {mayChange && <th scope="col">Actions</th>}
              </tr>
            </thead>
            <tbody>
              {views.map((view) => (
                <tr key={view.name}>
                  <td className="wrap">
                    <Link
                      href={addressOf(view.state)}
                      onFollow={(event) => {
                        event.preventDefault();
                        onClose();
                        onOpen(view.state);
                      }}
                    >
                      {visible(view.name)}
                    </Link>
                    <Box color="text-body-secondary" fontSize="body-s">
                      {visible(described(view.state, zone))}
                    </Box>
                  </td>
                  {mayChange && <td className="numbers">
                    <Button
                      variant="inline-link"
                      disabled={busy}
                      ariaLabel={`Replace ${visible(view.name)} with this ${one}`}
                      onClick={() => {
                        setName(view.name);
                        field.current?.focus();
                      }}
                    >
                      Replace
                    </Button>{" "}
                    <Button
                      variant="inline-link"
                      disabled={busy}
                      ariaLabel={`Delete ${visible(view.name)}`}
                      onClick={() => run(() => remove(path(view.name)), `Deleted: ${view.name}`, `The ${one} was not deleted`)}
                    >
                      Delete
                    </Button>
                  </td>}
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </SpaceBetween>
    </Modal>
  );
}

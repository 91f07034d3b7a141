import Alert from "@cloudscape-design/components/alert";
import Button from "@cloudscape-design/components/button";
import Container from "@cloudscape-design/components/container";
import Header from "@cloudscape-design/components/header";
import KeyValuePairs from "@cloudscape-design/components/key-value-pairs";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import Tabs from "@cloudscape-design/components/tabs";
import { type ReactNode, useState } from "react";
import { type ApiError, get, post } from "../api/client";
import type { StoreList, StoreSummary } from "../api/types";
import { asApiError, useCall } from "../api/useCall";
import { For } from "../app/For";
import { usePreferences } from "../app/preferences";
import { follow, href, useQuery } from "../app/router";
import { useSession } from "../app/session";
import { OwnActivity } from "../parts/OwnActivity";
import { Problem } from "../parts/Problem";
import { DeleteStore, StopStore } from "../parts/StoreDialogs";
import { StoreStatus } from "../parts/StoreStatus";
import { number, stamp } from "../text/time";
import { visible } from "../text/visible";

export default function Store(): ReactNode {
  const [arn] = useQuery("arn");
  const { data, error, loading, reload } = useCall((signal) => get<StoreList>("stores", {}, signal).then(({ stores }) => stores), [], 5_000);
  const store = data?.find((other) => other.arn === arn);
  if (store) return <Detail store={store} onChange={reload} />;
  return (
    <SpaceBetween size="m">
      <Header variant="h1">Event data store</Header>
      {loading && !data && <Spinner />}
      <Problem error={error} what="The event data store could not be loaded" onRetry={reload} />
      {data && (
        <Alert type="warning" header={`There is no event data store ${visible(arn ?? "")}`}>
          <Button href={href("/stores")} onFollow={follow}>
            All event data stores
          </Button>
        </Alert>
      )}
    </SpaceBetween>
  );
}

function Detail({ store, onChange }: { store: StoreSummary; onChange: () => void }): ReactNode {
  const { account } = useSession();
  const { zone } = usePreferences();
  const [tab, setTab] = useQuery("tab");
  const [busy, setBusy] = useState(false);
  const [dialog, setDialog] = useState<"stop" | "delete" | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const change = (operation: string): void => {
    setDialog(null);
    setBusy(true);
    setError(null);
    post(`aws/${operation}`, { EventDataStore: store.arn }, { region: store.region })
      .then(onChange, (failure) => setError(asApiError(failure)))
      .finally(() => setBusy(false));
  };
  const isOwn = store.account === account;
  const { restorableUntil } = store;
  const tabs = [
    { id: "settings", label: "Settings", content: <Settings store={store} /> },
    { id: "selectors", label: "Event selectors", content: <Selectors store={store} /> },
    { id: "history", label: "Activity of this store", content: <OwnActivity label="Activity of this store" names={[store.arn]} /> },
  ];
  return (
    <SpaceBetween size="l">
      <Header
        variant="h1"
        description={<span className="wrap">{visible(store.arn)}</span>}
        actions={
          <SpaceBetween direction="horizontal" size="xs">
            {isOwn && (
              <For role="operator">
                {restorableUntil ? (
                  <Button loading={busy} onClick={() => change("RestoreEventDataStore")}>
                    Restore
                  </Button>
                ) : (
                  <Changes store={store} busy={busy} onStart={() => change("StartEventDataStoreIngestion")} onAsk={setDialog} />
                )}
              </For>
            )}
            {!restorableUntil && (
              <Button variant="primary" href={href("/sql", { statement: statementFor(store.sql) })} onFollow={follow}>
                Query
              </Button>
            )}
          </SpaceBetween>
        }
      >
        {visible(store.name)}
      </Header>
      {dialog === "stop" && <StopStore store={store} onCancel={() => setDialog(null)} onConfirm={() => change("StopEventDataStoreIngestion")} />}
      {dialog === "delete" && <DeleteStore store={store} onCancel={() => setDialog(null)} onConfirm={() => change("DeleteEventDataStore")} />}
      <Problem error={error} what="The event data store was not changed" />
      {restorableUntil && (
        <Alert type="warning" header="This event data store is deleted">
          You can restore it until {stamp(restorableUntil, zone)}. After that, its events are lost.
        </Alert>
      )}
      {!isOwn && <Alert type="info">The store belongs to account {visible(store.account)}. Here you can only change stores of account {visible(account)}.</Alert>}
      <Container>
        <KeyValuePairs
          columns={4}
          items={[
            { label: "Status", value: <StoreStatus store={store} /> },
            { label: "Events", value: visible(store.categories.join(", ")) },
            { label: "Retention", value: `${number(store.retentionDays)} days` },
            { label: "Regions", value: store.multiRegion ? "All Regions" : visible(store.region) },
          ]}
        />
      </Container>
      <Container>
        <Tabs tabs={tabs} activeTabId={tab ?? "settings"} onChange={({ detail }) => setTab(detail.activeTabId)} />
      </Container>
    </SpaceBetween>
  );
}

interface ChangesProps {
  store: StoreSummary;
  busy: boolean;
  onStart: () => void;
  onAsk: (dialog: "stop" | "delete") => void;
}

function Changes({ store, busy, onStart, onAsk }: ChangesProps): ReactNode {
  const isProtected = store.terminationProtection;
  return (
    <SpaceBetween direction="horizontal" size="xs">
      <Button href={href("/stores/edit", { arn: store.arn })} onFollow={follow}>
        Edit
      </Button>
      <Button onClick={() => onAsk("delete")} disabled={busy || isProtected} disabledReason={isProtected ? "Termination protection is on. To turn it off, edit the store." : undefined}>
        Delete
      </Button>
      {!store.categories.some((category) => ["Insight", "ActivityAuditLog"].includes(category)) &&
        (store.status === "ENABLED" ? (
          <Button loading={busy} onClick={() => onAsk("stop")}>
            Stop ingestion
          </Button>
        ) : (
          <Button loading={busy} onClick={onStart}>
            Start ingestion
          </Button>
        ))}
    </SpaceBetween>
  );
}

function statementFor(table: string): string {
  return `SELECT eventTime, eventName, userIdentity.arn AS principal\nFROM ${table}\nORDER BY eventTime DESC\nLIMIT 50`;
}

function Settings({ store }: { store: StoreSummary }): ReactNode {
  const { zone } = usePreferences();
  const tags = Object.entries(store.tags).map(([key, value]) => visible(`${key} = ${value}`));
  return (
    <KeyValuePairs
      columns={4}
      items={[
        { label: "Name in SQL", value: <code>{visible(store.sql)}</code> },
        { label: "Termination protection", value: store.terminationProtection ? "on" : "off" },
        { label: "Tags", value: tags.join(", ") || "–" },
        { label: "Account", value: visible(store.account) },
        { label: "Region", value: visible(store.region) },
        { label: "Created", value: stamp(store.created, zone) },
        { label: "Updated", value: stamp(store.updated, zone) },
      ]}
    />
  );
}

function Selectors({ store }: { store: StoreSummary }): ReactNode {
  const lines = JSON.stringify(store.selectors, null, 2).split("\n");
  return (
    <pre className="json" tabIndex={0}>
      {lines.map(visible).join("\n")}
    </pre>
  );
}

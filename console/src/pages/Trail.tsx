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
import type { TrailList, TrailSummary } from "../api/types";
import { asApiError, useCall } from "../api/useCall";
import { For } from "../app/For";
import { follow, href, navigate, useQuery } from "../app/router";
import { JsonTree } from "../parts/JsonTree";
import { OwnActivity } from "../parts/OwnActivity";
import { Problem } from "../parts/Problem";
import { EndTrail, type Ending } from "../parts/TrailDialogs";
import { TrailStatus } from "../parts/TrailStatus";
import { Verify } from "../parts/Verify";
import { ago } from "../text/time";
import { show, visible } from "../text/visible";

interface TrailSettings {
  S3KeyPrefix?: string;
  KmsKeyId?: string;
  SnsTopicARN?: string;
  CloudWatchLogsLogGroupArn?: string;
  IncludeGlobalServiceEvents?: boolean;
}

export default function Trail(): ReactNode {
  const [name] = useQuery("name");
  const { data, error, loading, reload } = useCall((signal) => get<TrailList>("trails", {}, signal).then(({ trails }) => trails), [], 5_000);
  const trail = data?.find((other) => other.arn === name || other.name === name);
  if (!trail) {
    return (
      <SpaceBetween size="m">
        <Header variant="h1">Trail</Header>
        {loading && !data && <Spinner />}
        <Problem error={error} what="The trail could not be loaded" onRetry={reload} />
        {data && (
          <Alert type="warning" header={`There is no trail ${visible(name ?? "")}`}>
            <Button href={href("/trails")} onFollow={follow}>
              All trails
            </Button>
          </Alert>
        )}
      </SpaceBetween>
    );
  }
  const last = !data?.some((other) => other.logging && other.arn !== trail.arn);
  return <Detail trail={trail} last={last} onChange={reload} />;
}

function Detail({ trail, last, onChange }: { trail: TrailSummary; last: boolean; onChange: () => void }): ReactNode {
  const [tab, setTab] = useQuery("tab");
  const [busy, setBusy] = useState(false);
  const [ending, setEnding] = useState<Ending | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const region = { region: trail.homeRegion };
  const change = (operation: string, after: () => void): void => {
    setBusy(true);
    setError(null);
    post(`aws/${operation}`, { Name: trail.arn }, region)
      .then(after, (failure) => setError(asApiError(failure)))
      .finally(() => setBusy(false));
  };
  const end = (confirmed: Ending): void => {
    setEnding(null);
    change(confirmed, confirmed === "DeleteTrail" ? () => navigate(href("/trails")) : onChange);
  };
  const tabs = [
    { id: "settings", label: "Settings", content: <Settings trail={trail} /> },
    { id: "selectors", label: "Event selectors", content: <Selectors trail={trail} /> },
    { id: "history", label: "Activity of this trail", content: <OwnActivity label="Activity of this trail" names={[trail.name, trail.arn]} /> },
    { id: "integrity", label: "Integrity", content: <Verify trail={trail} /> },
  ];
  return (
    <SpaceBetween size="l">
      <Header
        variant="h1"
        description={<span className="wrap">{visible(trail.arn)}</span>}
        actions={
          <For role="operator">
            <SpaceBetween direction="horizontal" size="xs">
              <Button href={href("/trails/edit", { name: trail.arn })} onFollow={follow}>
                Edit
              </Button>
              <Button onClick={() => setEnding("DeleteTrail")} disabled={busy}>
                Delete
              </Button>
              {trail.logging ? (
                <Button loading={busy} onClick={() => setEnding("StopLogging")}>
                  Stop logging
                </Button>
              ) : (
                <Button variant="primary" loading={busy} onClick={() => change("StartLogging", onChange)}>
                  Start logging
                </Button>
              )}
            </SpaceBetween>
          </For>
        }
      >
        {visible(trail.name)}
      </Header>
      {ending && <EndTrail ending={ending} trail={trail} last={last} onCancel={() => setEnding(null)} onConfirm={() => end(ending)} />}
      <Problem error={error} what="The trail was not changed" />
      {trail.status === "Failing" && (
        <Alert type="error" header="Log files cannot be delivered">
          {show(trail.reason)}. Events are not lost: delivery continues once the cause is mended.
        </Alert>
      )}
      <Container>
        <KeyValuePairs
          columns={4}
          items={[
            { label: "Status", value: <TrailStatus trail={trail} /> },
            { label: "S3 bucket", value: visible(trail.bucket) },
            { label: "Last log file", value: ago(trail.latestDelivery) },
            { label: "Last digest", value: trail.validation ? ago(trail.latestDigest) : "validation is off" },
          ]}
        />
      </Container>
      <Container>
        <Tabs tabs={tabs} activeTabId={tab ?? "settings"} onChange={({ detail }) => setTab(detail.activeTabId)} />
      </Container>
    </SpaceBetween>
  );
}

function Settings({ trail }: { trail: TrailSummary }): ReactNode {
  const { data, error, reload } = useCall(
    (signal) => post<{ Trail: TrailSettings }>("aws/GetTrail", { Name: trail.arn }, { region: trail.homeRegion }, signal),
    [trail.arn],
  );
  const found = data?.Trail;
  if (!found) return error ? <Problem error={error} what="The settings could not be loaded" onRetry={reload} /> : <Spinner />;
  return (
    <KeyValuePairs
      columns={3}
      items={[
        { label: "Home Region", value: visible(trail.homeRegion) },
        { label: "All Regions", value: trail.multiRegion ? "yes" : "no" },
        { label: "Global service events", value: found.IncludeGlobalServiceEvents === false ? "no" : "yes" },
        { label: "Log file prefix", value: show(found.S3KeyPrefix) },
        { label: "Log file validation", value: trail.validation ? "on" : "off" },
        { label: "KMS key", value: show(found.KmsKeyId) },
        { label: "SNS topic", value: show(found.SnsTopicARN) },
        { label: "CloudWatch Logs group", value: show(found.CloudWatchLogsLogGroupArn) },
      ]}
    />
  );
}

function Selectors({ trail }: { trail: TrailSummary }): ReactNode {
  const { data, error, reload } = useCall(
    (signal) => post<Record<string, unknown>>("aws/GetEventSelectors", { TrailName: trail.arn }, { region: trail.homeRegion }, signal),
    [trail.arn],
  );
  if (!data) return error ? <Problem error={error} what="The selectors could not be loaded" onRetry={reload} /> : <Spinner />;
  return <JsonTree text={JSON.stringify(data)} />;
}

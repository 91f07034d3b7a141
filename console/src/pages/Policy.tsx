import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import Container from "@cloudscape-design/components/container";
import FormField from "@cloudscape-design/components/form-field";
import Header from "@cloudscape-design/components/header";
import KeyValuePairs from "@cloudscape-design/components/key-value-pairs";
import Link from "@cloudscape-design/components/link";
import SegmentedControl from "@cloudscape-design/components/segmented-control";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import Textarea from "@cloudscape-design/components/textarea";
import { type ReactNode, useState } from "react";
import { type ApiError, get, post } from "../api/client";
import type { PolicyDifference, PolicyOfCalls, PolicyTest } from "../api/types";
import { asApiError, useCall } from "../api/useCall";
import { changeQuery, follow, href, useRoute } from "../app/router";
import { sinceOf } from "../filter/conditions";
import { Copy } from "../parts/Copy";
import { Problem } from "../parts/Problem";
import { ValueList } from "../parts/ValueList";
import { number } from "../text/time";
import { visible } from "../text/visible";

const PERIODS = { "7d": "Last week", "30d": "Last 30 days", "90d": "Last 90 days" };
const RESOURCES = { exact: "Exactly those", prefix: "What names have in common", any: "All" };
const LINES = 24;

/** Generates a policy from a principal's calls, and tests policies on them. */
export default function Policy(): ReactNode {
  const { query } = useRoute();
  const principal = query.get("principal") ?? "";
  const last = query.get("last") ?? "";
  const period = last in PERIODS ? last : "90d";
  const chosen = query.get("resources") ?? "";
  const resources = chosen in RESOURCES ? chosen : "prefix";
  const { data, error, loading, reload } = useCall(
    principal ? (signal) => get<PolicyOfCalls>("policy", { principal, resources, since: sinceOf(period, Date.now()) }, signal) : null,
    [principal, resources, period],
  );
  return (
    <SpaceBetween size="l">
      <Header variant="h1" description="Permissions that its recorded calls needed. Each policy is tested on the same calls.">
        <span className="wrap">{visible(`Least privilege of ${principal}`)}</span>
      </Header>
      <SpaceBetween direction="horizontal" size="l">
        <Choice label="Calls of" value={period} options={PERIODS} onChange={(value) => changeQuery({ last: value })} />
        <Choice label="Resources" value={resources} options={RESOURCES} onChange={(value) => changeQuery({ resources: value })} />
      </SpaceBetween>
      <Problem error={error} what="The policy could not be made" onRetry={reload} />
      {loading && !data && <Spinner />}
      {data && data.events === 0 && <Box color="text-body-secondary">No call of this principal in this period.</Box>}
      {data && data.events > 0 && (
        <SpaceBetween size="l">
          <Made made={data} />
          <Test key={`${principal} ${period}`} principal={principal} period={period} initial={textOf(data)} />
        </SpaceBetween>
      )}
    </SpaceBetween>
  );
}

interface ChoiceProps {
  label: string;
  value: string;
  options: Record<string, string>;
  onChange: (value: string) => void;
}

function Choice({ label, value, options, onChange }: ChoiceProps): ReactNode {
  return (
    <SegmentedControl
      label={label}
      selectedId={value}
      options={Object.entries(options).map(([id, text]) => ({ id, text }))}
      onChange={({ detail }) => onChange(detail.selectedId)}
    />
  );
}

function Made({ made }: { made: PolicyOfCalls }): ReactNode {
  const text = textOf(made);
  const notes = [
    ["On every resource, because the records name none", made.unlimited],
    ["Left out, because AWS's authorization data has no such action", made.unverified],
    ["Its records do not show the permissions it needs; add them yourself", made.unmapped],
  ] as const;
  return (
    <Container
      header={
        <Header variant="h2" actions={<Copy text={() => text} label="Copy the policy">Copy</Copy>}>
          What it used
        </Header>
      }
    >
      <SpaceBetween size="m">
        {made.warning && <Alert type="warning">{visible(made.warning)}</Alert>}
        <KeyValuePairs
          columns={4}
          items={[
            { label: "Allowed calls", value: number(made.calls.allowed ?? 0) },
            { label: "Of these, the policy would refuse", value: made.refusedByIt === null ? "not known" : number(made.refusedByIt) },
            { label: "Denied calls, left out", value: number(made.calls.denied ?? 0) },
            { label: "Calls that failed, left out", value: number(made.calls.failed ?? 0) },
          ]}
        />
        {made.policies.length > 1 && <Box>{made.policies.length} policies, because a managed one has 6,144 characters at most.</Box>}
        <pre className="json" tabIndex={0}>
          {text.split("\n").map(visible).join("\n")}
        </pre>
        {notes.map(
          ([title, counts]) =>
            Object.keys(counts).length > 0 && (
              <div key={title}>
                <Box variant="h3">{title}</Box>
                <ValueList values={Object.entries(counts).map(([value, count]) => ({ value, count }))} />
              </div>
            ),
        )}
      </SpaceBetween>
    </Container>
  );
}

function Test({ principal, period, initial }: { principal: string; period: string; initial: string }): ReactNode {
  const [text, setText] = useState(initial);
  const [tested, setTested] = useState<PolicyTest | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [wrong, setWrong] = useState("");
  const [busy, setBusy] = useState(false);
  const run = async (): Promise<void> => {
    setWrong("");
    let document: unknown;
    try {
      document = JSON.parse(text);
    } catch (problem) {
      return setWrong(`This is not JSON: ${(problem as Error).message}`);
    }
    const policies = Array.isArray(document) ? document : [document];
    setBusy(true);
    try {
      setTested(await post<PolicyTest>("policy/test", { principal, since: sinceOf(period, Date.now()), policies }));
      setError(null);
    } catch (problem) {
      const failed = asApiError(problem);
      setTested(null);
      if (failed.status === 400) setWrong(failed.message);
      else setError(failed);
    }
    return setBusy(false);
  };
  return (
    <Container header={<Header variant="h2" description="What would these policies alone have decided about its past calls?">Test a policy</Header>}>
      <SpaceBetween size="m">
        <FormField label="Policy" description="A policy document, or a list of them" errorText={wrong && visible(wrong)} stretch>
          <Textarea value={text} rows={12} spellcheck={false} onChange={({ detail }) => setText(detail.value)} />
        </FormField>
        <Button onClick={() => void run()} loading={busy} variant="primary">
          Test on past calls
        </Button>
        <Problem error={error} what="The policy could not be tested" onRetry={() => void run()} />
        {tested && <Result tested={tested} />}
      </SpaceBetween>
    </Container>
  );
}

function Result({ tested }: { tested: PolicyTest }): ReactNode {
  const { allowedCalls: allowed, deniedCalls: denied } = tested;
  return (
    <div role="status">
      <SpaceBetween size="m">
        <KeyValuePairs
          columns={4}
          items={[
            { label: "Allowed calls that stay allowed", value: number(allowed.allowed ?? 0) },
            { label: "Allowed calls that would be denied", value: number(allowed.denied ?? 0) },
            { label: "Denied calls that would be allowed", value: number(denied.allowed ?? 0) },
            { label: "Cannot be decided", value: number((allowed.unknown ?? 0) + (denied.unknown ?? 0)) },
          ]}
        />
        <Differences title="Would be denied" rows={tested.newlyDenied} />
        <Differences title="Cannot be decided" rows={tested.unknown} />
        <Differences title="Would be allowed, and were denied" rows={tested.newlyAllowed} />
      </SpaceBetween>
    </div>
  );
}

function Differences({ title, rows }: { title: string; rows: PolicyDifference[] }): ReactNode {
  if (!rows.length) return null;
  return (
    <div>
      <Box variant="h3">{title}</Box>
      <ul>
        {rows.slice(0, LINES).map((row, index) => (
          <li key={index} className="wrap">
            <Box variant="code">{visible(row.action)}</Box> on {visible(row.resource)}
            {row.reason && `, ${visible(row.reason)}`}: {number(row.calls)} {row.calls === 1 ? "call" : "calls"},{" "}
            <Link href={href(`/events/${encodeURIComponent(row.eventId)}`)} onFollow={follow}>
              the last one
            </Link>
          </li>
        ))}
      </ul>
      {rows.length > LINES && <Box color="text-body-secondary">And {number(rows.length - LINES)} more.</Box>}
    </div>
  );
}

/** One policy, or the list of several. */
function textOf({ policies }: PolicyOfCalls): string {
  return JSON.stringify(policies.length === 1 ? policies[0] : policies, null, 2);
}

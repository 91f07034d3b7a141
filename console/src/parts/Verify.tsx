import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import Link from "@cloudscape-design/components/link";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import StatusIndicator from "@cloudscape-design/components/status-indicator";
import { type ReactNode, useState } from "react";
import { type ApiError, get, post } from "../api/client";
import type { TrailSummary, Verification } from "../api/types";
import { asApiError, useCall } from "../api/useCall";
import { For } from "../app/For";
import { usePreferences } from "../app/preferences";
import { follow, href } from "../app/router";
import { stamp, zoneName } from "../text/time";
import { visible } from "../text/visible";
import { Problem } from "./Problem";

interface Digest {
  bucket: string;
  key: string;
}

interface Chain {
  region: string;
  since: string;
  starts: Digest[];
  newest: Digest;
}

interface Verified {
  valid: boolean;
  lines: string[];
}

/** Alert text about changed objects; it lists them unless there are many. */
export function Findings({ verified, shown = 5 }: { verified: Verification; shown?: number }): ReactNode {
  const rest = Math.max(verified.findings.length - shown, 0) + verified.more;
  return (
    <>
      {verified.findings.slice(0, shown).map(({ name, reason, event }, index) => (
        <div key={index} className="wrap">
          {visible(name)}: {visible(reason)}{" "}
          {event && (
            <Link href={href(`/events/${encodeURIComponent(event)}`, { tab: "proof" })} onFollow={follow}>
              The event
            </Link>
          )}
        </div>
      ))}
      {rest > 0 && <div>and {rest} more</div>}
    </>
  );
}

function Last({ verified }: { verified: Verification }): ReactNode {
  const { zone } = usePreferences();
  const when = `${stamp(verified.at, zone)} ${zoneName(zone)}`;
  if (verified.findings.length) {
    return (
      <Alert type="error" header={`⚠ Broken, found ${when}`}>
        <Findings verified={verified} shown={20} />
      </Alert>
    );
  }
  return <Box color="text-body-secondary">{verified.valid ? `Verified ${when}: valid.` : `Verified ${when}: not everything could be decided.`}</Box>;
}

/** The digest chains of a trail, and their verification now. */
export function Verify({ trail, onVerified }: { trail: TrailSummary; onVerified?: () => void }): ReactNode {
  const body = { name: trail.arn };
  const { data, error, reload } = useCall((signal) => get<{ chains: Chain[] }>("trails/digests", body, signal), [trail.arn]);
  const [result, setResult] = useState<Verified | null>(null);
  const [failure, setFailure] = useState<ApiError | null>(null);
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState("");
  const run = (action: Promise<void>, otherwise: string): void => {
    setBusy(true);
    setFailure(null);
    setFailed(otherwise);
    action.catch((problem) => setFailure(asApiError(problem))).finally(() => setBusy(false));
  };
  const verify = (): void => run(post<Verified>("trails/verify", body).then((done) => (setResult(done), onVerified?.())), "The verification did not finish");
  const flush = (): void => run(post("trails/flush", body).then(reload), "The log files could not be delivered");
  if (!trail.validation) return <Box color="text-body-secondary">Log file validation is off for this trail: there are no digests.</Box>;
  return (
    <SpaceBetween size="m">
      {trail.verified && !result && <Last verified={trail.verified} />}
      <Problem error={error} what="The digest chains could not be loaded" onRetry={reload} />
      {!data && !error && <Spinner />}
      {data && <Chains chains={data.chains} trail={trail.name} />}
      <SpaceBetween direction="horizontal" size="xs">
        <Button onClick={verify} loading={busy} loadingText="Verifying">
          Verify now
        </Button>
        <For role="operator">
          <Button onClick={flush} disabled={busy}>
            Deliver and sign now
          </Button>
        </For>
      </SpaceBetween>
      <Problem error={failure} what={failed} />
      {result && (
        <div aria-live="polite">
          <Outcome result={result} />
          <pre className="json" tabIndex={0}>
            {result.lines.map((line) => visible(line.replaceAll("\t", "  "))).join("\n")}
          </pre>
        </div>
      )}
    </SpaceBetween>
  );
}

function Outcome({ result: { valid, lines } }: { result: Verified }): ReactNode {
  if (valid) return <StatusIndicator type="success">All log files are unchanged</StatusIndicator>;
  return lines.some((line) => line.startsWith("NOT GOOD")) ? (
    <StatusIndicator type="error">Log files were changed or are missing</StatusIndicator>
  ) : (
    <StatusIndicator type="warning">Not everything could be decided</StatusIndicator>
  );
}

/** The digests of a Region: each names the one before it, back to the first of its chain. */
function Chains({ chains, trail }: { chains: Chain[]; trail: string }): ReactNode {
  const { zone } = usePreferences();
  if (!chains.length) return <Box color="text-body-secondary">No digest yet; the first one is signed at the end of the first interval after logging began.</Box>;
  return (
    <div className="chart-table" tabIndex={0} role="region" aria-label={`Digest chains of ${visible(trail)}`}>
      <table className="plain-table">
        <thead>
          <tr>
            <th scope="col">Region</th>
            <th scope="col">Signed since ({zoneName(zone)})</th>
            <th scope="col">Chains</th>
            <th scope="col">Newest digest</th>
          </tr>
        </thead>
        <tbody>
          {chains.map(({ region, since, starts, newest }) => (
            <tr key={region}>
              <td className="numbers">{visible(region)}</td>
              <td className="numbers">{stamp(since, zone)}</td>
              <td className="numbers">{Math.max(starts.length, 1)}</td>
              <td className="numbers">{visible(newest.key.split("/").at(-1) ?? newest.key)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

import Box from "@cloudscape-design/components/box";
import Link from "@cloudscape-design/components/link";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import type { ReactNode } from "react";
import type { Proof, Proofs, ProofState } from "../api/types";
import type { Call } from "../api/useCall";
import { follow, href } from "../app/router";
import { visible } from "../text/visible";
import { Copy } from "./Copy";
import { Problem } from "./Problem";

/** Symbol and word of a state, both understandable without colour. */
const STATES: Record<ProofState, [string, string]> = {
  broken: ["⚠", "Broken"],
  proven: ["◈", "Proven"],
  pending: ["○", "Pending"],
  unsigned: ["–", "Unsigned"],
  unknown: ["?", "Unknown"],
};

/** The state of an event: one broken proof outweighs all valid ones. */
export function overall(proofs: Proof[]): ProofState | null {
  return worstFirst(proofs)[0]?.state ?? null;
}

function worstFirst(proofs: Proof[]): Proof[] {
  const order = Object.keys(STATES);
  return proofs.toSorted((a, b) => order.indexOf(a.state) - order.indexOf(b.state));
}

export function ProofBadge({ state }: { state: ProofState }): ReactNode {
  const [symbol, word] = STATES[state];
  return (
    <span className={`proof ${state}`}>
      <span aria-hidden="true">{symbol}</span> {word}
    </span>
  );
}

/** The proof of an event from the bucket of each trail. */
export default function ProofView({ call: { data, error, reload } }: { call: Call<Proofs> }): ReactNode {
  return (
    <SpaceBetween size="l">
      <Problem error={error} what="The proof could not be made" onRetry={reload} />
      {!data && !error && (
        <Box>
          <Spinner /> Reading the log file and its digest
        </Box>
      )}
      {data && !data.trails.length && (
        <Box>
          {data.imported
            ? "This event was imported. Trails deliver only events that this server recorded."
            : "No trail delivers this event, so no bucket has it."}
        </Box>
      )}
      {data && worstFirst(data.trails).map((proof) => (
        <section key={proof.arn} aria-label={`Proof by trail ${visible(proof.trail)}`}>
          <SpaceBetween size="xs">
            <div className="toolbar">
              <ProofBadge state={proof.state} />
              <Link href={href("/trails/view", { name: proof.arn })} onFollow={follow}>
                {visible(proof.trail)}
              </Link>
            </div>
            <Box>{visible(proof.message)}</Box>
            <Place label="Log file" bucket={proof.bucket} name={proof.key} />
            <Place label="Digest file" bucket={proof.bucket} name={proof.digestKey} />
          </SpaceBetween>
        </section>
      ))}
      {data && data.trails.length > 0 && (
        <Box color="text-body-secondary" fontSize="body-s">
          A process of its own finds the log file in the bucket, compares its hash value with the one in the digest file, and verifies the
          digest file’s RSA signature. <Link href={href("/integrity")} onFollow={follow}>Integrity</Link> verifies whole trails.
        </Box>
      )}
    </SpaceBetween>
  );
}

function Place({ label, bucket, name }: { label: string; bucket: string; name: string | null }): ReactNode {
  if (name === null) return null;
  const address = `s3://${bucket}/${name}`;
  return (
    <div>
      <Box variant="awsui-key-label">{label}</Box>
      <span className="wrap">{visible(address)}</span> <Copy label={`Copy the address of the ${label.toLowerCase()}`} text={() => address} />
    </div>
  );
}

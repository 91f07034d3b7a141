import Box from "@cloudscape-design/components/box";
import Container from "@cloudscape-design/components/container";
import Header from "@cloudscape-design/components/header";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import type { ReactNode } from "react";
import { get } from "../api/client";
import type { TrailList } from "../api/types";
import { useCall } from "../api/useCall";
import { NoTrailLogs } from "../parts/NoTrailLogs";
import { Problem } from "../parts/Problem";
import { Verify } from "../parts/Verify";
import { visible } from "../text/visible";

export default function Integrity(): ReactNode {
  const { data, error, loading, reload } = useCall((signal) => get<TrailList>("trails", {}, signal).then(({ trails }) => trails), []);
  return (
    <SpaceBetween size="l">
      <Header
        variant="h1"
        description="Each digest lists log files with their hashes, is signed, and names the digest before it: a change, a removal or an addition breaks the chain."
      >
        Integrity
      </Header>
      <NoTrailLogs trails={data} />
      <Problem error={error} what="Trails could not be loaded" onRetry={reload} />
      {loading && !data && <Spinner />}
      {data && !data.length && <Box>No trail yet: digests are signed for the log files of trails.</Box>}
      {data?.map((trail) => (
        <Container key={trail.arn} header={<Header variant="h2" description={`Bucket ${visible(trail.bucket)}`}>{visible(trail.name)}</Header>}>
          <Verify trail={trail} onVerified={reload} />
        </Container>
      ))}
      <Box color="text-body-secondary">
        Without this server, verify a copy of the bucket with <Box variant="code">opentrail validate</Box> or{" "}
        <Box variant="code">aws cloudtrail validate-logs</Box>.
      </Box>
    </SpaceBetween>
  );
}

import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import Container from "@cloudscape-design/components/container";
import Header from "@cloudscape-design/components/header";
import SpaceBetween from "@cloudscape-design/components/space-between";
import type { ReactNode } from "react";
import { get } from "../api/client";
import type { Page } from "../api/types";
import { useCall } from "../api/useCall";
import { For } from "../app/For";
import { href, navigate } from "../app/router";
import { visible } from "../text/visible";
import { Copy } from "./Copy";

const LINE = "aws iam create-user --user-name Mary";

/** Shown until the first event arrives; then its sentence takes its place. */
export function FirstEvent(): ReactNode {
  const { data } = useCall((signal) => get<Page>("events/rows", { limit: 1, categories: "all" }, signal), [], 1_000, ({ events }) => events.length > 0);
  const first = data?.events[0];
  if (first) {
    return (
      <Container header={<Header variant="h2">{visible(first.sentence)}</Header>}>
        <Button variant="primary" onClick={() => navigate(href("/events", { expression: "", categories: "all" }))}>
          Show all events
        </Button>
      </Container>
    );
  }
  return (
    <Container header={<Header variant="h2">Get started</Header>}>
      <SpaceBetween size="s">
        <Box>
          No call has been recorded yet. In another terminal, paste the export lines that opentrail printed when it started,
          then call any AWS API. The call appears here within a second.
        </Box>
        <pre className="json" tabIndex={0}>
          {LINE}
        </pre>
        <Copy label="Copy the command" text={() => LINE}>
          Copy
        </Copy>
        <Box>To have events delivered to an S3 bucket, turn on CloudTrail:</Box>
        <For role="operator">
          <Button onClick={() => navigate(href("/turn-on"))}>Get Started Now</Button>
        </For>
        <Box color="text-body-secondary">To search records you already have, run: opentrail import FILES</Box>
      </SpaceBetween>
    </Container>
  );
}

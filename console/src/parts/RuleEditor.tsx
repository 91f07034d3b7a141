import Button from "@cloudscape-design/components/button";
import Container from "@cloudscape-design/components/container";
import FormField from "@cloudscape-design/components/form-field";
import Header from "@cloudscape-design/components/header";
import Link from "@cloudscape-design/components/link";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import { type ReactNode, useState } from "react";
import { type ApiError, get, post } from "../api/client";
import type { Detection, DetectionDetail } from "../api/types";
import { asApiError, useCall } from "../api/useCall";
import { follow, href, navigate } from "../app/router";
import { visible } from "../text/visible";
import { Problem } from "./Problem";
import { RuleTest, useRuleTest } from "./RuleTest";

const LINES = 22;
const BOX = { boxSizing: "border-box", width: "100%", padding: 8, border: "1px solid #7d8998", borderRadius: 8, color: "inherit", background: "transparent", resize: "vertical" } as const;
export const TEMPLATE = `title: Users created by people
name: user_created
level: low
description: >-
  A new user can be a way back in. Ask the caller.
tags: [attack.t1136.003]
falsepositives:
  - New colleagues
logsource: {product: aws, service: cloudtrail}
detection:
  create:
    eventSource: iam.amazonaws.com
    eventName: CreateUser
  pipeline:
    userIdentity.arn|contains: ':assumed-role/deploy/'
  condition: create and not pipeline
`;

/** Returns a rule's text under another name, so that enabling it does not replace the rule. */
export function copyOf(source: string, name: string): string {
  return source.replace(new RegExp(`^name: *['"]?${name.replace(/\./g, "\\.")}['"]?$`, "m"), `name: ${name}_copy`).replace(/^id: .*\n/gm, "");
}

/** Writes a rule, from a template or as a copy: tests it, then enables it. */
export function RuleEditor({ copied }: { copied: string }): ReactNode {
  const { data, error, reload } = useCall(copied ? (signal) => get<DetectionDetail>("detections/rule", { name: copied }, signal) : null, [copied]);
  return (
    <SpaceBetween size="l">
      <Link href={href("/detections")} onFollow={follow}>
        All detections
      </Link>
      <Header variant="h1" description="A Sigma rule that opentrail applies to new events once you enable it.">
        Write a rule
      </Header>
      <Problem error={error} what="The rule to copy could not be loaded" onRetry={reload} />
      {copied && !data ? !error && <Spinner /> : <Fields key={copied} initial={data ? copyOf(data.source, data.name) : TEMPLATE} />}
    </SpaceBetween>
  );
}

function Fields({ initial }: { initial: string }): ReactNode {
  const [source, setSource] = useState(initial);
  const [failure, setFailure] = useState<ApiError | null>(null);
  const [enabling, setEnabling] = useState(false);
  const { tested, error, busy, run, forget } = useRuleTest();
  const wrong = error?.status === 400 ? error.message : "";
  const enable = (): void => {
    setEnabling(true);
    setFailure(null);
    post<Detection>("detections", { source }).then(
      ({ name }) => navigate(href("/detections", { name })),
      (problem) => (setFailure(asApiError(problem)), setEnabling(false)),
    );
  };
  return (
    <Container>
      <SpaceBetween size="m">
        <FormField label="Rule" description="YAML in the format of Sigma" constraintText="Enabling it replaces an enabled rule of the same name." errorText={wrong && visible(wrong)} controlId="rule" stretch>
          {/* Cloudscape's component would load with the event history. */}
          <textarea id="rule" className="json" style={BOX} value={source} rows={LINES} spellCheck={false} aria-invalid={wrong !== ""} onChange={({ target }) => (setSource(target.value), forget())} />
        </FormField>
        <SpaceBetween direction="horizontal" size="xs">
          <Button variant={tested ? "normal" : "primary"} loading={busy} onClick={() => run({ source })}>
            Test on the last 90 days
          </Button>
          <Button variant={tested ? "primary" : "normal"} disabled={!tested} disabledReason="Test it first" loading={enabling} onClick={enable}>
            Enable
          </Button>
        </SpaceBetween>
        <div aria-live="polite">{tested && <RuleTest tested={tested} />}</div>
        <Problem error={error && !wrong ? error : null} what="The rule could not be tested" onRetry={() => run({ source })} />
        <Problem error={failure} what="The rule was not enabled" />
      </SpaceBetween>
    </Container>
  );
}

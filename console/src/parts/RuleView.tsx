import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import Container from "@cloudscape-design/components/container";
import ExpandableSection from "@cloudscape-design/components/expandable-section";
import Header from "@cloudscape-design/components/header";
import KeyValuePairs from "@cloudscape-design/components/key-value-pairs";
import Link from "@cloudscape-design/components/link";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import StatusIndicator from "@cloudscape-design/components/status-indicator";
import type { ReactNode } from "react";
import { get } from "../api/client";
import type { Detection, DetectionDetail, DetectionMatch } from "../api/types";
import { useCall } from "../api/useCall";
import { For } from "../app/For";
import { usePreferences } from "../app/preferences";
import { follow, href, useRoute } from "../app/router";
import { number, stamp, zoneName } from "../text/time";
import { show, visible } from "../text/visible";
import { Copy } from "./Copy";
import { Level } from "./Level";
import { Matches } from "./Matches";
import { Problem } from "./Problem";
import { RuleTest, useRuleTest } from "./RuleTest";
import { useSwitch } from "./ruleSwitch";

const ATTACK = "https://attack.mitre.org/techniques/";

/** Everything about one rule. */
export function RuleView({ name }: { name: string }): ReactNode {
  const { query } = useRoute();
  const scope = { account: query.get("account"), region: query.get("region") };
  const rule = useCall((signal) => get<DetectionDetail>("detections/rule", { name }, signal), [name]);
  const matches = useCall((signal) => get<{ matches: DetectionMatch[] }>("detections/matches", { ...scope, name }, signal), [name, scope.account, scope.region]);
  const { error } = rule;
  const isGone = error?.status === 404;
  const data = isGone ? null : rule.data;
  const title = visible(data?.title ?? matches.data?.matches[0]?.title ?? name);
  return (
    <SpaceBetween size="l">
      <Link href={href("/detections")} onFollow={follow}>
        All detections
      </Link>
      {data ? (
        <Rule key={name} rule={data} onChanged={rule.reload} />
      ) : (
        <Header variant="h1" description={isGone ? "This rule is disabled. Its matches remain." : undefined}>
          {title}
        </Header>
      )}
      {!data && !error && <Spinner />}
      <Problem error={isGone ? null : error} what="The rule could not be loaded" onRetry={rule.reload} />
      <Matches call={matches} ofOne header={<Header variant="h2">{`Newest matches of ${title}`}</Header>} />
    </SpaceBetween>
  );
}

function Rule({ rule, onChanged }: { rule: DetectionDetail; onChanged: () => void }): ReactNode {
  const { tested, error, busy, run } = useRuleTest();
  const { set, dialog, problem, pending } = useSwitch(onChanged);
  const isEnabled = rule.enabledAt !== null;
  return (
    <SpaceBetween size="l">
      <Header
        variant="h1"
        description={visible(rule.description)}
        actions={
          <For role="admin">
            <SpaceBetween direction="horizontal" size="xs">
              {rule.source && (
                <Button href={href("/detections", { write: rule.name })} onFollow={follow}>
                  Copy as a new rule
                </Button>
              )}
              <Button loading={busy} onClick={() => run({ name: rule.name })}>
                Test on the last 90 days
              </Button>
              <Button variant={isEnabled ? "normal" : "primary"} loading={pending !== null} onClick={() => set(rule, !isEnabled)}>
                {isEnabled ? "Disable" : "Enable"}
              </Button>
            </SpaceBetween>
          </For>
        }
      >
        {visible(rule.title)}
      </Header>
      {problem}
      <div aria-live="polite">{tested && <Container header={<Header variant="h2">Test</Header>}>{<RuleTest tested={tested} />}</Container>}</div>
      <Problem error={error} what="The rule could not be tested" />
      <Container header={<Header variant="h2">Details</Header>}>
        <SpaceBetween size="m">
          <Facts rule={rule} />
          {rule.falsePositives.length > 0 && (
            <div>
              <Box variant="awsui-key-label">False positives</Box>
              {rule.falsePositives.map((text) => (
                <div key={text} className="wrap">
                  {visible(text)}
                </div>
              ))}
            </div>
          )}
          {rule.source && (
            <ExpandableSection headerText="YAML" headerActions={<Copy text={() => rule.source} label="Copy the YAML" />}>
              <pre className="json" tabIndex={0}>
                {rule.source.split("\n").map(visible).join("\n")}
              </pre>
            </ExpandableSection>
          )}
        </SpaceBetween>
      </Container>
      {dialog}
    </SpaceBetween>
  );
}

function Facts({ rule }: { rule: Detection }): ReactNode {
  const { zone } = usePreferences();
  const techniques = rule.technique.split(", ").filter(Boolean);
  return (
    <KeyValuePairs
      columns={4}
      items={[
        { label: "State", value: rule.enabledAt ? <StatusIndicator type="success">Enabled</StatusIndicator> : <StatusIndicator type="stopped">Not enabled</StatusIndicator> },
        { label: "Level", value: <Level level={rule.level} /> },
        {
          label: "MITRE technique",
          value: techniques.length
            ? techniques.map((id) => (
                <div key={id}>
                  <Link external href={`${ATTACK}${id.replace(".", "/")}/`}>
                    {visible(id)}
                  </Link>
                </div>
              ))
            : "–",
        },
        { label: "Matches", value: `${number(rule.matches)}${rule.complete ? "" : " or more"}` },
        { label: "Name", value: <span className="wrap">{visible(rule.name)}</span> },
        { label: "Author", value: show(rule.author) },
        { label: `Enabled (${zoneName(zone)})`, value: rule.enabledAt ? `${stamp(rule.enabledAt, zone)} by ${visible(rule.enabledBy ?? "")}` : "–" },
        { label: `Last match (${zoneName(zone)})`, value: rule.lastMatch ? stamp(rule.lastMatch, zone) : "–" },
      ]}
    />
  );
}

import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import Container from "@cloudscape-design/components/container";
import Header from "@cloudscape-design/components/header";
import Link from "@cloudscape-design/components/link";
import SpaceBetween from "@cloudscape-design/components/space-between";
import type { ReactNode } from "react";
import { get } from "../api/client";
import type { DetectionMatch, DetectionRules } from "../api/types";
import { useCall } from "../api/useCall";
import { follow, href } from "../app/router";
import { sinceOf } from "../filter/conditions";
import { ago, number } from "../text/time";
import { visible } from "../text/visible";
import { Level } from "./Level";
import { Problem } from "./Problem";

const REFRESH_INTERVAL = 30_000;
/** Maximum matches of one answer. */
const MAX_MATCHES = 200;
const MAX_RULES = 5;

/** Returns the newest match of each rule with the number of the rule's matches, newest first. */
export function byRule(matches: DetectionMatch[]): [DetectionMatch, number][] {
  const found = new Map<string, [DetectionMatch, number]>();
  for (const match of matches) {
    const known = found.get(match.rule);
    if (known) known[1] += 1;
    else found.set(match.rule, [match, 1]);
  }
  return [...found.values()];
}

/** The matches of rules in a week. */
export function OpenMatches({ scope }: { scope: { account: string | null; region: string | null } }): ReactNode {
  const { data, error, reload } = useCall(
    (signal) => get<{ matches: DetectionMatch[] }>("detections/matches", { ...scope, since: sinceOf("7d", Date.now()), limit: MAX_MATCHES }, signal),
    [scope.account, scope.region],
    REFRESH_INTERVAL,
  );
  const isQuiet = data?.matches.length === 0;
  const rules = useCall(isQuiet ? (signal) => get<DetectionRules>("detections", {}, signal) : null, [isQuiet]);
  const found = byRule(data?.matches ?? []);
  const least = data?.matches.length === MAX_MATCHES ? "at least " : "";
  return (
    <Container fitHeight header={<Header variant="h2" actions={<Button href={href("/detections", { tab: "matches" })} onFollow={follow}>All matches</Button>}>Detections</Header>}>
      <Problem error={error} what="Matches could not be loaded" onRetry={reload} />
      {isQuiet && rules.data && <Quiet rules={rules.data} />}
      <SpaceBetween size="s">
        {found.slice(0, MAX_RULES).map(([match, count]) => (
          <div key={match.rule} className="toolbar">
            <span className="grow wrap">
              <Link href={href("/detections", { name: match.rule })} onFollow={follow}>
                {visible(match.title)}
              </Link>
              <Box color="text-body-secondary" fontSize="body-s">
                {`${least}${count === 1 ? "1 match" : `${number(count)} matches`}, the last ${ago(match.eventTime)}`}
              </Box>
            </span>
            <Level level={match.level} />
          </div>
        ))}
        {found.length > MAX_RULES && <Box color="text-body-secondary">{found.length === MAX_RULES + 1 ? "and 1 more rule" : `and ${number(found.length - MAX_RULES)} more rules`}</Box>}
      </SpaceBetween>
    </Container>
  );
}

function Quiet({ rules: { rules, notEnabled } }: { rules: DetectionRules }): ReactNode {
  const enabled = rules.filter(({ starter }) => starter).length;
  return (
    <Box color="text-body-secondary">
      {"No matches in 7 days. "}
      <Link href={href("/detections")} onFollow={follow}>
        {`${enabled} of ${enabled + notEnabled.length} starter rules are enabled`}
      </Link>
      .
    </Box>
  );
}

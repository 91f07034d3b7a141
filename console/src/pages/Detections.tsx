import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import ButtonDropdown from "@cloudscape-design/components/button-dropdown";
import Header from "@cloudscape-design/components/header";
import Input from "@cloudscape-design/components/input";
import Link from "@cloudscape-design/components/link";
import SpaceBetween from "@cloudscape-design/components/space-between";
import StatusIndicator from "@cloudscape-design/components/status-indicator";
import Table from "@cloudscape-design/components/table";
import Tabs from "@cloudscape-design/components/tabs";
import Toggle from "@cloudscape-design/components/toggle";
import type { ReactNode } from "react";
import { get } from "../api/client";
import type { Detection, DetectionMatch, DetectionRules } from "../api/types";
import { type Call, useCall } from "../api/useCall";
import { For } from "../app/For";
import { useNarrow } from "../app/narrow";
import { usePreferences } from "../app/preferences";
import { changeQuery, follow, href, useQuery, useRoute } from "../app/router";
import { useMay } from "../app/session";
import { Level } from "../parts/Level";
import { Matches } from "../parts/Matches";
import { Problem } from "../parts/Problem";
import { RuleEditor } from "../parts/RuleEditor";
import { useSwitch } from "../parts/ruleSwitch";
import { RuleView } from "../parts/RuleView";
import { number, stamp, zoneName } from "../text/time";
import { visible } from "../text/visible";

const SHOWN = { all: "All rules", enabled: "Enabled", off: "Not enabled" };

/** Returns the rules whose title, name, level, technique or description have all words. */
export function filtered(rules: Detection[], words: string, shown: string): Detection[] {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  return rules.filter(({ enabledAt, title, name, level, technique, description }) => {
    if (shown !== "all" && (shown === "enabled") !== (enabledAt !== null)) return false;
    const text = [title, name, level, technique, description].join(" ").toLowerCase();
    return wanted.every((word) => text.includes(word));
  });
}

export default function Detections(): ReactNode {
  const { query } = useRoute();
  const name = query.get("name");
  const copied = query.get("write");
  const mayWrite = useMay("admin");
  if (name !== null) return <RuleView key={name} name={name} />;
  if (copied !== null && mayWrite) return <RuleEditor copied={copied} />;
  return <Both />;
}

/** Rules and matches. */
function Both(): ReactNode {
  const [tab, setTab] = useQuery("tab");
  const { query } = useRoute();
  const scope = { account: query.get("account"), region: query.get("region") };
  const rules = useCall((signal) => get<DetectionRules>("detections", {}, signal), []);
  const matches = useCall((signal) => get<{ matches: DetectionMatch[] }>("detections/matches", scope, signal), [scope.account, scope.region]);
  return (
    <SpaceBetween size="m">
      <Header
        variant="h1"
        description="Sigma rules that opentrail applies to new events."
        actions={
          <For role="admin">
            <Button variant="primary" href={href("/detections", { write: "" })} onFollow={follow}>
              Write a rule
            </Button>
          </For>
        }
      >
        Detections
      </Header>
      <Tabs
        activeTabId={tab === "matches" ? "matches" : "rules"}
        onChange={({ detail }) => setTab(detail.activeTabId === "matches" ? "matches" : null)}
        tabs={[
          { id: "rules", label: "Rules", content: <Rules call={rules} /> },
          { id: "matches", label: "Matches", content: <Matches call={matches} /> },
        ]}
      />
    </SpaceBetween>
  );
}

function Rules({ call: { data, error, loading, reload } }: { call: Call<DetectionRules> }): ReactNode {
  const { density, zone } = usePreferences();
  const narrow = useNarrow();
  const { query } = useRoute();
  const mayChange = useMay("admin");
  const { set, dialog, problem, pending } = useSwitch(reload);
  const words = query.get("filter") ?? "";
  const shown = (query.get("show") ?? "") in SHOWN ? (query.get("show") as keyof typeof SHOWN) : "all";
  const all = data ? [data.rules, data.notEnabled].flatMap((rules) => rules.toSorted((a, b) => a.title.localeCompare(b.title))) : [];
  const items = filtered(all, words, shown);
  return (
    <>
      {problem}
      <Problem error={error} what="Rules could not be loaded" onRetry={reload} />
      <Table
        variant="borderless"
        items={items}
        wrapLines
        visibleColumns={narrow ? ["title", "enabled"] : undefined}
        contentDensity={density}
        loading={loading && !data}
        loadingText="Loading rules"
        trackBy="name"
        ariaLabels={{ tableLabel: "Rules" }}
        filter={
          <div className="toolbar">
            <span className="grow">
              <Input
                type="search"
                value={words}
                placeholder="Find rules by title, level or technique"
                ariaLabel="Find rules"
                onChange={({ detail }) => changeQuery({ filter: detail.value || null }, { replace: true })}
              />
            </span>
            <ButtonDropdown
              items={Object.entries(SHOWN).map(([id, text]) => ({ id, text }))}
              onItemClick={({ detail }) => changeQuery({ show: detail.id === "all" ? null : detail.id })}
            >
              {SHOWN[shown]}
            </ButtonDropdown>
          </div>
        }
        columnDefinitions={[
          {
            id: "title",
            header: "Rule",
            isRowHeader: true,
            cell: (rule: Detection) => (
              <>
                <Link href={href("/detections", { name: rule.name })} onFollow={follow}>
                  {visible(rule.title)}
                </Link>
                {narrow && (
                  <Box variant="small" display="block">
                    <Level level={rule.level} />
                  </Box>
                )}
              </>
            ),
          },
          { id: "level", header: "Level", cell: ({ level }) => <Level level={level} />, width: 130 },
          { id: "technique", header: "Technique", cell: ({ technique }) => visible(technique || "–"), width: 130 },
          {
            id: "enabled",
            header: "Enabled",
            cell: (rule) =>
              mayChange ? (
                <Toggle
                  checked={rule.enabledAt !== null}
                  disabled={pending !== null}
                  ariaLabel={`Enable ${visible(rule.title)}`}
                  onChange={({ detail }) => set(rule, detail.checked)}
                />
              ) : rule.enabledAt ? (
                <StatusIndicator type="success">Enabled</StatusIndicator>
              ) : (
                <StatusIndicator type="stopped">No</StatusIndicator>
              ),
            width: narrow ? 110 : 130,
          },
          { id: "matches", header: "Matches", cell: ({ matches: count, complete }) => `${number(count)}${complete ? "" : " or more"}`, width: 110 },
          { id: "last", header: `Last match (${zoneName(zone)})`, cell: ({ lastMatch }) => <span className="numbers">{lastMatch ? stamp(lastMatch, zone) : "–"}</span>, width: 190 },
        ]}
        empty={<Box color="text-body-secondary">No rule has this.</Box>}
      />
      {dialog}
    </>
  );
}

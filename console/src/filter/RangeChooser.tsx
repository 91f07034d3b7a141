import ButtonDropdown from "@cloudscape-design/components/button-dropdown";
import { type ReactNode, useRef, useState } from "react";
import { useKeys } from "../app/keys";
import { onDemand } from "../app/onDemand";
import { stamp } from "../text/time";
import { NO_RANGE, type Range } from "./conditions";

const RangeDialog = onDemand(() => import("./RangeDialog"));

export const LASTS: [string, string][] = [
  ["15m", "Last 15 minutes"],
  ["1h", "Last hour"],
  ["3h", "Last 3 hours"],
  ["12h", "Last 12 hours"],
  ["1d", "Last 24 hours"],
  ["7d", "Last 7 days"],
  ["30d", "Last 30 days"],
  ["90d", "Last 90 days"],
];

export function rangeText(range: Range, zone: string): string {
  if (range.last) return LASTS.find(([id]) => id === range.last)?.[1] ?? `Last ${range.last}`;
  if (range.since && range.until) return `${short(range.since, zone)} – ${short(range.until, zone)}`;
  if (range.since) return `Since ${short(range.since, zone)}`;
  if (range.until) return `Until ${short(range.until, zone)}`;
  return "All time";
}

function shortest(range: Range): string {
  return range.last ?? (range.since || range.until ? "From … to …" : "All time");
}

/** A time without seconds, if these are 0. */
function short(time: string, zone: string): string {
  return stamp(time, zone).replace(/:00$/, "");
}

interface Props {
  range: Range;
  zone: string;
  /** Whether the chooser is too narrow for words. */
  isShort: boolean;
  onChange: (range: Range) => void;
}

export function RangeChooser({ range, zone, isShort, onChange }: Props): ReactNode {
  const [custom, setCustom] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  useKeys({
    t: () => box.current?.querySelector("button")?.click(),
    "t a": () => setCustom(true),
  });
  return (
    <div ref={box}>
      <ButtonDropdown
        ariaLabel={isShort ? `${rangeText(range, zone)}: ${shortest(range)}` : undefined}
        items={[
          { id: "all", text: "All time" },
          ...LASTS.map(([id, text]) => ({ id, text })),
          { id: "custom", text: "From … to …" },
        ]}
        onItemClick={({ detail: { id } }) => {
          if (id === "custom") setCustom(true);
          else onChange({ ...NO_RANGE, last: id === "all" ? null : id });
        }}
      >
        {isShort ? shortest(range) : rangeText(range, zone)}
      </ButtonDropdown>
      {custom && (
        <RangeDialog range={range} zone={zone} onChange={onChange} onClose={() => setCustom(false)} />
      )}
    </div>
  );
}

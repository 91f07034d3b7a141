import { type KeyboardEvent, type PointerEvent, type ReactNode, useEffect, useId, useMemo, useRef, useState } from "react";
import { number, rate, roundTimes, stamp, tick } from "../text/time";

export interface ChartPoint {
  time: number;
  /** One value per series, drawn on top of each other. */
  values: number[];
  expected?: number | null;
}

export interface ChartSeries {
  name: string;
  tone: "normal" | "bad";
}

/** Events: successful ones, with failed ones on top. */
export const OUTCOMES: ChartSeries[] = [
  { name: "Succeeded", tone: "normal" },
  { name: "Failed", tone: "bad" },
];

interface Props {
  label: string;
  points: ChartPoint[];
  /** Milliseconds per point. */
  step: number;
  series: ChartSeries[];
  zone: string;
  height?: number;
  /** Whether to show only bars and times, 48 pixels high; pointing at a bar shows its number. */
  isSmall?: boolean;
  /** A period to highlight, such as an incident. */
  marked?: { start: number; end: number };
  /** Called with the chosen period, its end excluded. */
  onSelect?: (start: number, end: number) => void;
}

const MARGIN = { top: 8, right: 8, bottom: 20, left: 44 };
const SMALL_MARGIN = { top: 0, right: 0, bottom: 14, left: 0 };
const SMALL_HEIGHT = 48;
/** Width in pixels of a time below the bars. */
const TICK_WIDTH = 110;
/** Width in pixels of "Show as a table" after the times in a small chart. */
const SWITCH_WIDTH = 140;

interface Selection {
  anchor: number;
  head: number;
}

/** Bars over time with a line for the expected number. Choose a period by pointer, keys or in the table. */
export function TimeChart({ label, points, step, series, zone, isSmall = false, height = isSmall ? SMALL_HEIGHT : 120, marked, onSelect }: Props): ReactNode {
  const [width, box] = useWidth();
  const [selection, setSelection] = useState<Selection | null>(null);
  const [hovered, setHovered] = useState<number | null>(null);
  const dragging = useRef(false);
  const help = useId();
  const margin = isSmall ? SMALL_MARGIN : MARGIN;
  const first = points[0]?.time ?? 0;
  const top = useMemo(() => niceTop(Math.max(1, ...points.map((p) => Math.max(sum(p.values), p.expected ?? 0)))), [points]);
  const inner = { width: Math.max(width - margin.left - margin.right, 1), height: height - margin.top - margin.bottom };
  const slot = inner.width / Math.max(points.length, 1);
  const x = (index: number): number => margin.left + index * slot;
  const y = (value: number): number => margin.top + inner.height * (1 - value / top);
  const xOfTime = (time: number): number => clamp(x((time - first) / step), margin.left, width - margin.right);
  const at = (event: PointerEvent<SVGSVGElement>): number => {
    const { left } = event.currentTarget.getBoundingClientRect();
    return clamp(Math.floor((event.clientX - left - margin.left) / slot), 0, points.length - 1);
  };
  const narrow = (chosen: Selection | null): void => {
    setSelection(null);
    const [from, to] = chosen ? ends(chosen) : [0, 0];
    const start = points[from];
    const end = points[to];
    if (chosen && start && end) onSelect?.(start.time, end.time + step);
  };

  useEffect(() => setSelection(null), [points]);

  const onKeyDown = (event: KeyboardEvent): void => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (move && points.length) {
      event.preventDefault();
      const last = points.length - 1;
      const head = clamp((selection?.head ?? (move > 0 ? -1 : last + 1)) + move, 0, last);
      setSelection({ head, anchor: event.shiftKey && onSelect && selection ? selection.anchor : head });
    } else if (event.key === "Enter" && selection && onSelect) narrow(selection);
    else if (event.key === "Escape" && selection) setSelection(null);
    else return;
    event.stopPropagation();
  };

  const shown = hovered ?? selection?.head ?? null;
  const [from, to] = selection ? ends(selection) : [0, 0];
  return (
    <figure className={isSmall ? "chart small" : "chart"} ref={box}>
      <div className="chart-legend">
        {!isSmall && series.map(({ name, tone }) => (
          <span key={name}>
            <i className={`swatch ${tone}`} /> {name}
          </span>
        ))}
        {points.some(({ expected }) => expected !== undefined && expected !== null) && (
          <span>
            <i className="swatch expected" /> Expected
          </span>
        )}
        <span className="chart-reading" aria-live="polite">
          {shown !== null && points[shown] ? reading(points[shown], series, zone) : isSmall ? "" : `${span(step)} per bar`}
        </span>
      </div>
      <div
        role="group"
        tabIndex={0}
        aria-label={label}
        aria-describedby={help}
        className="chart-focus"
        onKeyDown={onKeyDown}
        onBlur={() => setSelection(null)}
      >
        <svg
          width={width}
          height={height}
          aria-hidden="true"
          className={onSelect ? "selectable" : undefined}
          onPointerDown={(event) => {
            if (!onSelect || event.button !== 0) return;
            const head = at(event);
            event.currentTarget.setPointerCapture?.(event.pointerId);
            dragging.current = true;
            setSelection({ anchor: head, head });
          }}
          onPointerMove={(event) => {
            const head = at(event); // React clears event.currentTarget before it calls an updater
            setHovered(head);
            if (dragging.current) setSelection((before) => before && { ...before, head });
          }}
          onPointerUp={() => {
            if (dragging.current) narrow(selection);
            dragging.current = false;
          }}
          onPointerCancel={() => {
            dragging.current = false;
            setSelection(null);
          }}
          onPointerLeave={() => setHovered(null)}
        >
          {(isSmall ? [] : [0, top / 2, top]).map((value) => (
            <g key={value}>
              <line className="grid" x1={margin.left} x2={width - margin.right} y1={y(value)} y2={y(value)} />
              <text x={margin.left - 6} y={y(value) + 4} textAnchor="end">
                {compact(value)}
              </text>
            </g>
          ))}
          {marked && (
            <rect
              className="marked"
              x={xOfTime(marked.start)}
              width={Math.max(xOfTime(marked.end) - xOfTime(marked.start), 2)}
              y={margin.top}
              height={inner.height}
            />
          )}
          {points.map((point, index) => {
            let base = 0;
            return point.values.map((value, which) => {
              const bottom = base;
              base += value;
              if (!value) return null;
              const y2 = y(bottom);
              const length = Math.max(y2 - y(base), 1.5);
              return (
                <rect
                  key={`${point.time} ${which}`}
                  className={series[which]?.tone}
                  x={x(index) + (slot > 4 ? 1 : 0)}
                  width={Math.max(slot - (slot > 4 ? 2 : 0), 1)}
                  y={y2 - length}
                  height={length}
                />
              );
            });
          })}
          <path className="expected" d={steps(points, x, y, slot)} />
          {roundTimes(first, first + step * points.length, zone, Math.max(Math.floor(inner.width / TICK_WIDTH), 1)).map((time) => (
            <g key={time}>
              <line className="tick" x1={xOfTime(time)} x2={xOfTime(time)} y1={margin.top + inner.height} y2={height - (isSmall ? 0 : 14)} />
              {!(isSmall && xOfTime(time) > width - SWITCH_WIDTH) && (
                <text x={xOfTime(time) + (isSmall ? 4 : 0)} y={height - (isSmall ? 3 : 4)} textAnchor={isSmall ? "start" : "middle"}>
                  {tick(time, zone)}
                </text>
              )}
            </g>
          ))}
          {selection && (
            <rect className="brush" x={x(from)} width={(to - from + 1) * slot} y={margin.top} height={inner.height} />
          )}
        </svg>
      </div>
      <p id={help} className="hidden">
        Left and right arrow move.{onSelect && " With Shift they select a period, Enter narrows the search to it."}
      </p>
      <Twin points={points} series={series} zone={zone} step={step} onSelect={onSelect} label={label} />
    </figure>
  );
}

/** The chart as a table, made when it opens. */
function Twin({ points, series, zone, step, onSelect, label }: Pick<Props, "points" | "series" | "zone" | "step" | "onSelect" | "label">): ReactNode {
  const [open, setOpen] = useState(false);
  const rows = points.filter(({ values, expected }) => sum(values) > 0 || expected);
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Show as a table</summary>
      {open && (
        <div className="chart-table" tabIndex={0} role="region" aria-label={`${label}, as a table`}>
          <table>
            <thead>
              <tr>
                <th scope="col">Time ({zone})</th>
                {series.map(({ name }) => (
                  <th scope="col" key={name}>
                    {name}
                  </th>
                ))}
                {onSelect && <th scope="col">Action</th>}
              </tr>
            </thead>
            <tbody>
              {rows.map(({ time, values }) => (
                <tr key={time}>
                  <td>{stamp(time, zone)}</td>
                  {values.map((value, index) => (
                    <td key={series[index]?.name}>{number(value)}</td>
                  ))}
                  {onSelect && (
                    <td>
                      <button type="button" className="plain" onClick={() => onSelect(time, time + step)}>
                        Narrow to this
                      </button>
                    </td>
                  )}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </details>
  );
}

function useWidth(): [number, (node: HTMLElement | null) => (() => void) | undefined] {
  const [width, setWidth] = useState(800);
  const [observe] = useState(() => (node: HTMLElement | null) => {
    if (!node) return undefined;
    if (node.clientWidth) setWidth(node.clientWidth);
    if (!("ResizeObserver" in window)) return undefined;
    const observer = new ResizeObserver(() => node.clientWidth && setWidth(node.clientWidth));
    observer.observe(node);
    return () => observer.disconnect();
  });
  return [width, observe];
}

function steps(points: ChartPoint[], x: (index: number) => number, y: (value: number) => number, slot: number): string {
  let path = "";
  let drawing = false;
  points.forEach(({ expected }, index) => {
    if (expected === undefined || expected === null) {
      drawing = false;
      return;
    }
    path += `${drawing ? "L" : "M"}${x(index).toFixed(1)} ${y(expected).toFixed(1)}H${(x(index) + slot).toFixed(1)}`;
    drawing = true;
  });
  return path;
}

function reading(point: ChartPoint, series: ChartSeries[], zone: string): string {
  const parts = series.map(({ name }, index) => `${number(point.values[index] ?? 0)} ${name.toLowerCase()}`);
  if (point.expected !== undefined && point.expected !== null) parts.push(`${rate(point.expected)} expected`);
  return `${stamp(point.time, zone)}: ${parts.join(", ")}`;
}

function span(milliseconds: number): string {
  const seconds = milliseconds / 1000;
  const [size, name] = [[86_400, "day"], [3_600, "hour"], [60, "minute"], [1, "second"]].find(([unit]) => seconds >= Number(unit)) ?? [1, "second"];
  const count = Math.round((seconds / Number(size)) * 10) / 10;
  return `${count} ${name}${count === 1 ? "" : "s"}`;
}

function compact(value: number): string {
  return new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 }).format(value);
}

function niceTop(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 4, 6, 8, 10].find((factor) => value <= factor * power) ?? 10) * power;
}

function ends({ anchor, head }: Selection): [number, number] {
  return [Math.min(anchor, head), Math.max(anchor, head)];
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(Math.max(value, least), most);
}

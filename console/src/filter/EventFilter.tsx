import PropertyFilter, { type PropertyFilterProps } from "@cloudscape-design/components/property-filter";
import { type KeyboardEvent, type ReactNode, useMemo, useRef, useState } from "react";
import { ApiError, get, type Query } from "../api/client";
import { findResources } from "../api/resources";
import type { ValueCount } from "../api/types";
import { useKeys } from "../app/keys";
import { useRoute } from "../app/router";
import { number } from "../text/time";
import { visible } from "../text/visible";
import { EXPRESSION, type Filter, literal } from "./expression";
import { CATEGORY, FIXED_OPTIONS, filteringProperties, fromShown, PROPERTIES, searchedFor, toShown } from "./properties";

interface Props {
  filter: Filter;
  onChange: (filter: Filter) => void;
  /** Called after the Enter key has added a condition. */
  onEnter: () => void;
  /** Called when the Esc key leaves the field. */
  onLeave: () => void;
}

const MAX_NAMES = 20;

type Options = { status: "pending" | "loading" | "finished" | "error"; options: PropertyFilterProps.FilteringOption[] };

/** The filter of events; values are suggested by the server with the number of events that have them. */
export function EventFilter({ filter, onChange, onEnter, onLeave }: Props): ReactNode {
  const [loaded, setLoaded] = useState<Options>({ status: "pending", options: [] });
  const abort = useRef<AbortController | null>(null);
  const control = useRef<PropertyFilterProps.Ref>(null);
  const properties = useMemo(() => filteringProperties(filter), [filter]);
  const query = useMemo(() => toShown(filter), [filter]);
  const { query: address } = useRoute();
  const scope = { account: address.get("account"), region: address.get("region"), categories: address.get("categories") };
  useKeys({ "/": () => control.current?.focus() });

  const isEnter = useRef(false);
  const onKeyDown = (event: KeyboardEvent<HTMLElement>): void => {
    const isInField = event.target === event.currentTarget.querySelector("input");
    isEnter.current = isInField && event.key === "Enter";
    if (!isInField || event.key !== "Escape") return;
    event.stopPropagation();
    onLeave();
  };

  const load = async ({ filteringProperty, filteringText }: PropertyFilterProps.LoadItemsDetail): Promise<void> => {
    abort.current?.abort();
    const fields = filteringProperty ? [filteringProperty.key] : searchedFor(filteringText);
    const asked = fields.filter((field) => PROPERTIES.some(({ key, values, counted }) => key === field && (!values || counted) && key !== EXPRESSION));
    if (!asked.length) return setLoaded({ status: "finished", options: [] });
    const { signal } = (abort.current = new AbortController());
    // The earlier suggestions stay meanwhile: a choice by the arrow keys must not lose its place.
    setLoaded(({ options }) => ({ status: "loading", options }));
    try {
      // Fields whose values the server does not count have no suggestions; others still have.
      const found = await Promise.allSettled(asked.map((field) => suggestions(field, filteringText, scope, signal)));
      if (signal.aborted) return undefined;
      const options = found.flatMap((one) => (one.status === "fulfilled" ? one.value : []));
      const isDown = found.every((one) => one.status === "rejected" && !(one.reason instanceof ApiError && one.reason.status === 400));
      setLoaded({ status: isDown ? "error" : "finished", options });
    } finally {
      if (abort.current?.signal === signal) abort.current = null;
    }
    return undefined;
  };

  return (
    <div onKeyDownCapture={onKeyDown}>
      <PropertyFilter
        ref={control}
        query={query}
        onChange={({ detail }) => {
          onChange(fromShown(detail));
          if (isEnter.current) onEnter();
        }}
        filteringProperties={properties}
        filteringOptions={withCounts(FIXED_OPTIONS, loaded.options)}
        filteringStatusType={loaded.status}
        filteringErrorText="Suggestions could not be loaded."
        filteringRecoveryText="Try again"
        filteringLoadingText="Loading suggestions"
        onLoadItems={({ detail }) => void load(detail)}
        freeTextFiltering={{ operators: [":", "!:"], defaultOperator: ":" }}
        enableTokenGroups
        filteringAriaLabel="Filter events"
        filteringPlaceholder="Filter events by property or text"
        i18nStrings={{ clearFiltersText: "Clear", enteredTextLabel: (text) => `Search all values for "${visible(text)}"`, filteringPlaceholder: "Filter events by property or text" }}
      />
    </div>
  );
}

type Option = PropertyFilterProps.FilteringOption;

/** Options of properties with known values, with their counts once they are loaded, and then the others. */
function withCounts(fixed: Option[], loaded: Option[]): Option[] {
  const same = (a: Option) => (b: Option) => a.propertyKey === b.propertyKey && a.value === b.value;
  return [...fixed.map((option) => loaded.find(same(option)) ?? option), ...loaded.filter((option) => !fixed.some(same(option)))];
}

async function suggestions(field: string, prefix: string, scope: Query, signal: AbortSignal): Promise<Option[]> {
  if (field === "resourceName") {
    const found = await findResources(prefix, signal);
    const names = found.flatMap(({ name, type, aliases }) => [name, ...aliases].filter((each) => each.startsWith(prefix)).map((each) => ({ name: each, type })));
    return names.slice(0, MAX_NAMES).map(({ name, type }) => ({
      propertyKey: field,
      value: visible(literal(name)),
      tags: type ? [visible(type)] : [],
    }));
  }
  const conditions = field === CATEGORY ? { ...scope, categories: "all" } : scope;
  const { values } = await get<{ values: ValueCount[] }>("values", { ...conditions, field, prefix }, signal);
  return values.map(({ value, count }) => ({
    propertyKey: field,
    value: visible(literal(value)),
    tags: [`${number(count)} ${count === 1 ? "event" : "events"}`],
  }));
}

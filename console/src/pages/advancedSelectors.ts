/** Advanced event selectors: in the form, in the API, and equivalents of basic selectors. */

import fieldRules from "./selectorRules.json";
import type { EventSelector } from "./trailPlan";

/** The rules for conditions on a field. */
export interface FieldRule {
  operators: string[];
  /** null: any value. */
  values: string[] | null;
  required: boolean;
  /** Whether there is exactly one value. */
  single: boolean;
}

export interface Condition {
  field: string;
  operator: string;
  values: string[];
}

export interface AdvancedSelector {
  name: string;
  /** The value of eventCategory, which is not among the conditions. */
  category: string;
  conditions: Condition[];
}

/** An advanced event selector of the API: operators, with their values, are further members of a field. */
export interface AdvancedEventSelector {
  Name?: string;
  FieldSelectors: { Field: string; [operator: string]: string | string[] }[];
}

/** The owner of selectors, which decides on their categories and fields. */
export type SelectorOwner = keyof typeof fieldRules.fields;

const RULES: Record<SelectorOwner, Record<string, Record<string, FieldRule>>> = fieldRules.fields;
const CATEGORY = "eventCategory";
export const RESOURCE_TYPES = fieldRules.resourceTypes;

export function categoriesOf(owner: SelectorOwner): string[] {
  return Object.keys(RULES[owner]);
}

/** The fields that selectors of a category may have, with their rules. */
export function rulesOf(category: string, owner: SelectorOwner = "trail"): Record<string, FieldRule> {
  return RULES[owner][category] ?? {};
}

function condition(field: string, operator: string, ...values: string[]): Condition {
  return { field, operator, values };
}

/** A condition on a field without values. */
export function emptyCondition(category: string, field: string, owner: SelectorOwner = "trail"): Condition {
  return condition(field, rulesOf(category, owner)[field]?.operators[0] ?? "Equals");
}

/** The condition that a click on "Add condition" adds: on the first field without one. */
export function nextCondition({ category, conditions }: AdvancedSelector, owner: SelectorOwner = "trail"): Condition {
  const fields = Object.keys(rulesOf(category, owner));
  const field = fields.find((name) => conditions.every((other) => other.field !== name));
  return emptyCondition(category, field ?? fields[0] ?? "", owner);
}

export function emptySelector(category: string, owner: SelectorOwner = "trail"): AdvancedSelector {
  const rules = rulesOf(category, owner);
  const required = Object.keys(rules).filter((field) => rules[field]?.required);
  return { name: "", category, conditions: required.map((field) => emptyCondition(category, field, owner)) };
}

/** Changes the category of a selector: adds required conditions, and drops empty ones it does not allow. */
export function withCategory(selector: AdvancedSelector, category: string, owner: SelectorOwner = "trail"): AdvancedSelector {
  const kept = selector.conditions.filter(({ field, values }) => filled(values).length || rulesOf(category, owner)[field]);
  const added = emptySelector(category, owner).conditions.filter(({ field }) => kept.every((other) => other.field !== field));
  return { ...selector, category, conditions: [...added, ...kept] };
}

/** Whether the selector must keep a condition. */
export function isRequired({ category, conditions }: AdvancedSelector, { field }: Condition, owner: SelectorOwner = "trail"): boolean {
  return Boolean(rulesOf(category, owner)[field]?.required) && conditions.filter((other) => other.field === field).length === 1;
}

/** Missing parts of a condition in the form. The server checks the others. */
export function conditionError({ conditions }: AdvancedSelector, { field, operator, values }: Condition): string | null {
  if (!filled(values).length) return "Give a value.";
  const same = conditions.filter((other) => other.field === field && other.operator === operator);
  return same.length > 1 ? `Put all values for ${field} with ${operator} into one condition.` : null;
}

export function isComplete(selectors: AdvancedSelector[]): boolean {
  return selectors.every((selector) => selector.conditions.every((each) => !conditionError(selector, each)));
}

function filled(values: string[]): string[] {
  return values.filter((value) => value !== "");
}

export function toApi({ name, category, conditions }: AdvancedSelector): AdvancedEventSelector {
  const fields = new Map<string, AdvancedEventSelector["FieldSelectors"][number]>();
  for (const { field, operator, values } of [condition(CATEGORY, "Equals", category), ...conditions]) {
    fields.set(field, { ...fields.get(field), Field: field, [operator]: filled(values) });
  }
  return { ...(name && { Name: name }), FieldSelectors: [...fields.values()] };
}

export function fromApi({ Name, FieldSelectors }: AdvancedEventSelector): AdvancedSelector {
  const all = FieldSelectors.flatMap(({ Field, ...operators }) =>
    Object.entries(operators).map(([operator, values]) => condition(Field, operator, ...values)),
  );
  return {
    name: Name ?? "",
    category: all.find(({ field }) => field === CATEGORY)?.values[0] ?? "",
    conditions: all.filter(({ field }) => field !== CATEGORY),
  };
}

/** Values of basic selectors that mean all resources of a type. */
const ALL_RESOURCES = /^arn:aws[a-z-]*:(s3(:::)?|lambda|dynamodb)$/;

/** The advanced selectors that select the same events as basic ones. */
export function fromBasic(selectors: EventSelector[]): AdvancedSelector[] {
  return selectors.flatMap(({ ReadWriteType, IncludeManagementEvents, DataResources, ExcludeManagementEventSources = [] }) => {
    const readOnly = ReadWriteType === "All" ? [] : [condition("readOnly", "Equals", String(ReadWriteType === "ReadOnly"))];
    const excluded = ExcludeManagementEventSources.length ? [condition("eventSource", "NotEquals", ...ExcludeManagementEventSources)] : [];
    const management = { name: "Management events", category: "Management", conditions: [...readOnly, ...excluded] };
    const data = DataResources.flatMap(({ Type, Values }) =>
      arnConditions(Type, Values).map((arns) => ({
        name: `Data events of ${Type}`,
        category: "Data",
        conditions: [condition("resources.type", "Equals", Type), ...readOnly, ...arns],
      })),
    );
    return [...(IncludeManagementEvents ? [management] : []), ...data];
  });
}

/** The conditions of the selectors that a data resource needs: a table also needs a selector for its indexes. */
function arnConditions(type: string, values: string[]): Condition[][] {
  if (values.some((value) => ALL_RESOURCES.test(value))) return [[]];
  const arn = (operator: string, arns: string[]): Condition[] => [condition("resources.ARN", operator, ...arns)];
  if (type === "AWS::S3::Object") return [arn("StartsWith", values)];
  if (type === "AWS::DynamoDB::Table") return [arn("Equals", values), arn("StartsWith", values.map((table) => `${table}/index/`))];
  return [arn("Equals", values)];
}

/** Whether selectors are equal, ignoring names and order. */
export function selectSame(some: AdvancedSelector[], others: AdvancedSelector[]): boolean {
  const sorted = (selectors: AdvancedSelector[]): string =>
    JSON.stringify(
      selectors
        .map(({ category, conditions }) => [category, ...conditions.map(({ field, operator, values }) => JSON.stringify([field, operator, ...filled(values).sort()])).sort()])
        .map((parts) => JSON.stringify(parts))
        .sort(),
    );
  return sorted(some) === sorted(others);
}

/** The label of an unnamed selector. */
export function titleOf({ name, category, conditions }: AdvancedSelector): string {
  const type = conditions.find(({ field }) => field === "resources.type")?.values[0];
  return name || `${category} events${type ? ` of ${type}` : ""}`;
}

export interface Template {
  text: string;
  selector: AdvancedSelector;
}

function template(text: string, category: string, ...conditions: Condition[]): Template {
  return { text, selector: { name: text, category, conditions } };
}

/** Starter selectors. Fill in conditions without values. */
const TEMPLATES: Template[] = [
  template("All management events", "Management"),
  template("Management events that write", "Management", condition("readOnly", "Equals", "false")),
  template("Management events without AWS KMS", "Management", condition("eventSource", "NotEquals", "kms.amazonaws.com")),
  template("All S3 data events", "Data", condition("resources.type", "Equals", "AWS::S3::Object")),
  template("S3 data events of one bucket", "Data", condition("resources.type", "Equals", "AWS::S3::Object"), condition("resources.ARN", "StartsWith")),
  template("Data events of one Lambda function", "Data", condition("resources.type", "Equals", "AWS::Lambda::Function"), condition("resources.ARN", "Equals")),
  template("All Insights events", "Insight"),
  template("All events from channels", "ActivityAuditLog"),
];

export function templatesFor(owner: SelectorOwner): Template[] {
  return TEMPLATES.filter(({ selector }) => categoriesOf(owner).includes(selector.category));
}

/** Server messages that name a field; some also name an operator or a value. */
const MESSAGES = [
  /^Field (?<field>\S+) /,
  /^Value (?<value>.*) for (?<field>\S+) is /,
  /^Operator (?<operator>\S+) is not supported for (?<field>\S+) /,
  /^(?<operator>\S+) of (?<field>\S+) must have /,
];

/** Whether a message of the server is about a condition of a selector. */
export function concerns(message: string, category: string, { field, operator, values }: Condition): boolean {
  const named = MESSAGES.map((form) => form.exec(message)?.groups).find(Boolean);
  if (named?.field !== field) return false;
  if (named.operator && named.operator !== operator) return false;
  // Long values are shortened.
  const begin = named.value?.replace(/…$/, "");
  if (begin !== undefined && !values.some((value) => value.startsWith(begin))) return false;
  const about = /(\w+) events of a (?:trail|event data store)/.exec(message)?.[1];
  return !about || about === category;
}

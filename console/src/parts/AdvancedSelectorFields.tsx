import Alert from "@cloudscape-design/components/alert";
import AttributeEditor from "@cloudscape-design/components/attribute-editor";
import Autosuggest from "@cloudscape-design/components/autosuggest";
import Button, { type ButtonProps } from "@cloudscape-design/components/button";
import ButtonDropdown from "@cloudscape-design/components/button-dropdown";
import ColumnLayout from "@cloudscape-design/components/column-layout";
import Container from "@cloudscape-design/components/container";
import FormField from "@cloudscape-design/components/form-field";
import Header from "@cloudscape-design/components/header";
import Input from "@cloudscape-design/components/input";
import Multiselect from "@cloudscape-design/components/multiselect";
import Select from "@cloudscape-design/components/select";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Textarea from "@cloudscape-design/components/textarea";
import { type ReactNode, useRef, useState } from "react";
import {
  type AdvancedSelector,
  categoriesOf,
  type Condition,
  concerns,
  conditionError,
  emptyCondition,
  emptySelector,
  isRequired,
  nextCondition,
  RESOURCE_TYPES,
  rulesOf,
  type SelectorOwner,
  templatesFor,
  titleOf,
  withCategory,
} from "../pages/advancedSelectors";
import { visible } from "../text/visible";

/** Maximum lines of a field of values; it scrolls beyond that. */
const MAX_LINES = 8;

interface Props {
  owner: SelectorOwner;
  selectors: AdvancedSelector[];
  onChange: (selectors: AdvancedSelector[]) => void;
  /** Whether to name missing values. */
  attempted: boolean;
  /** Why the server refuses the selectors. */
  refusal: string | null;
}

/** The advanced event selectors of a trail or an event data store. */
export function AdvancedSelectorFields({ owner, selectors, onChange, attempted, refusal }: Props): ReactNode {
  const [added, setAdded] = useState<number | null>(null);
  const addButton = useRef<ButtonProps.Ref>(null);
  const errorOf = (selector: AdvancedSelector, condition: Condition): string | null =>
    (attempted ? conditionError(selector, condition) : null) ?? (refusal !== null && concerns(refusal, selector.category, condition) ? visible(refusal) : null);
  const isShownBelow = refusal !== null && selectors.some(({ category, conditions }) => conditions.some((condition) => concerns(refusal, category, condition)));
  const add = (): void => {
    setAdded(selectors.length);
    onChange([...selectors, emptySelector("Data", owner)]);
  };
  return (
    <SpaceBetween size="l">
      {refusal !== null && !isShownBelow && <Alert type="error">{visible(refusal)}</Alert>}
      {selectors.map((selector, index) => (
        <SelectorFields
          key={index}
          owner={owner}
          number={index + 1}
          isNew={index === added}
          selector={selector}
          errorOf={(condition) => errorOf(selector, condition)}
          onChange={(changed) => onChange(selectors.map((other, place) => (place === index ? changed : other)))}
          onRemove={() => {
            onChange(selectors.filter((_, place) => place !== index));
            addButton.current?.focus();
          }}
        />
      ))}
      <Button ref={addButton} iconName="add-plus" formAction="none" onClick={add}>
        Add selector
      </Button>
    </SpaceBetween>
  );
}

interface SelectorProps {
  owner: SelectorOwner;
  number: number;
  isNew: boolean;
  selector: AdvancedSelector;
  errorOf: (condition: Condition) => string | null;
  onChange: (selector: AdvancedSelector) => void;
  onRemove: () => void;
}

function SelectorFields({ owner, number, isNew, selector, errorOf, onChange, onRemove }: SelectorProps): ReactNode {
  const { name, category, conditions } = selector;
  const rules = rulesOf(category, owner);
  const setCondition = (index: number, changed: Condition): void => onChange({ ...selector, conditions: conditions.map((other, place) => (place === index ? changed : other)) });
  return (
    <Container
      header={
        <Header
          variant="h3"
          actions={
            <SpaceBetween direction="horizontal" size="xs">
              <ButtonDropdown
                ariaLabel={`Template for selector ${number}`}
                items={templatesFor(owner).map(({ text }) => ({ id: text, text }))}
                onItemClick={({ detail }) => onChange(templatesFor(owner).find(({ text }) => text === detail.id)?.selector ?? selector)}
              >
                Template
              </ButtonDropdown>
              <Button formAction="none" ariaLabel={`Remove selector ${number}`} onClick={onRemove}>
                Remove
              </Button>
            </SpaceBetween>
          }
        >
          {number}. {visible(titleOf(selector))}
        </Header>
      }
    >
      <SpaceBetween size="l">
        <ColumnLayout columns={2}>
          <FormField label="Name (optional)">
            <Input value={name} autoFocus={isNew} onChange={({ detail }) => onChange({ ...selector, name: detail.value })} />
          </FormField>
          <FormField label="Event category">
            <Select
              selectedOption={{ value: category }}
              options={categoriesOf(owner).map((value) => ({ value }))}
              onChange={({ detail }) => onChange(withCategory(selector, detail.selectedOption.value ?? category, owner))}
            />
          </FormField>
        </ColumnLayout>
        <AttributeEditor
          items={conditions}
          empty={`All ${category} events.`}
          addButtonText="Add condition"
          disableAddButton={!Object.keys(rules).length}
          removeButtonText="Remove"
          removeButtonAriaLabel={({ field }) => `Remove condition on ${field}`}
          isItemRemovable={(condition) => !isRequired(selector, condition, owner)}
          onAddButtonClick={() => onChange({ ...selector, conditions: [...conditions, nextCondition(selector, owner)] })}
          onRemoveButtonClick={({ detail }) => onChange({ ...selector, conditions: conditions.filter((_, place) => place !== detail.itemIndex) })}
          gridLayout={[{ breakpoint: "xs", rows: [[3, 2, 6]], removeButton: { width: "auto" } }, { rows: [[1], [1], [1]] }]}
          i18nStrings={{ errorIconAriaLabel: "Error", itemRemovedAriaLive: "Condition removed" }}
          definition={[
            {
              label: "Field",
              control: (condition: Condition, index: number) => (
                <Select
                  selectedOption={{ value: condition.field }}
                  options={Object.keys(rules).map((value) => ({ value }))}
                  disabled={isRequired(selector, condition, owner)}
                  onChange={({ detail }) => setCondition(index, emptyCondition(category, detail.selectedOption.value ?? condition.field, owner))}
                />
              ),
            },
            {
              label: "Operator",
              control: (condition: Condition, index: number) => (
                <Select
                  selectedOption={{ value: condition.operator }}
                  options={(rules[condition.field]?.operators ?? []).map((value) => ({ value }))}
                  onChange={({ detail }) => setCondition(index, { ...condition, operator: detail.selectedOption.value ?? condition.operator })}
                />
              ),
            },
            {
              label: "Values",
              errorText: errorOf,
              control: (condition: Condition, index: number) => (
                <Values owner={owner} selector={selector} condition={condition} onChange={(values) => setCondition(index, { ...condition, values })} />
              ),
            },
          ]}
        />
      </SpaceBetween>
    </Container>
  );
}

/** Examples of values of resources.ARN. */
const EXAMPLES: Record<string, string> = {
  "AWS::S3::Object": "arn:aws:s3:::my-bucket/",
  "AWS::Lambda::Function": "arn:aws:lambda:us-east-1:123456789012:function:my-function",
};

interface ValuesProps {
  owner: SelectorOwner;
  selector: AdvancedSelector;
  condition: Condition;
  onChange: (values: string[]) => void;
}

function Values({ owner, selector, condition: { field, values }, onChange }: ValuesProps): ReactNode {
  const rule = rulesOf(selector.category, owner)[field];
  const first = values[0] ?? "";
  if (rule?.values) {
    return (
      <Multiselect
        selectedOptions={values.map((value) => ({ value, label: value }))}
        options={rule.values.map((value) => ({ value }))}
        placeholder="Choose values"
        deselectAriaLabel={({ value }) => `Remove ${value}`}
        onChange={({ detail }) => onChange(detail.selectedOptions.map(({ value }) => value ?? ""))}
      />
    );
  }
  if (field === "resources.type") {
    return (
      <Autosuggest
        value={first}
        options={RESOURCE_TYPES.map((value) => ({ value }))}
        placeholder="AWS::S3::Object"
        enteredTextLabel={(text) => `Use ${text}`}
        onChange={({ detail }) => onChange([detail.value])}
      />
    );
  }
  if (rule?.single) return <Input value={first} onChange={({ detail }) => onChange([detail.value])} />;
  const type = selector.conditions.find((other) => other.field === "resources.type")?.values[0] ?? "";
  const example = field === "resources.ARN" && EXAMPLES[type];
  return (
    <Textarea
      value={values.join("\n")}
      rows={Math.min(Math.max(values.length, 1), MAX_LINES)}
      spellcheck={false}
      placeholder={example ? `${example}, one per line` : "One per line"}
      onChange={({ detail }) => onChange(detail.value.split("\n"))}
    />
  );
}

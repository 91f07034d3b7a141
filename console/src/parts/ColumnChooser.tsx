import Button from "@cloudscape-design/components/button";
import Checkbox from "@cloudscape-design/components/checkbox";
import ColumnLayout from "@cloudscape-design/components/column-layout";
import FormField from "@cloudscape-design/components/form-field";
import SegmentedControl from "@cloudscape-design/components/segmented-control";
import SpaceBetween from "@cloudscape-design/components/space-between";
import { type ReactNode, useState } from "react";
import { setPreferences, usePreferences } from "../app/preferences";
import { changeQuery } from "../app/router";
import { Dialog } from "./Dialog";
import { COLUMNS, columnsOf, PRESETS } from "./columns";

const SIZES = ["50", "100", "200"];

/** Chooses the columns, their order and the page size. */
export default function ColumnChooser({ shown, onClose }: { shown: readonly string[]; onClose: () => void }): ReactNode {
  const { pageSize } = usePreferences();
  const [chosen, setChosen] = useState([...shown]);
  const [size, setSize] = useState(String(pageSize));
  const ordered = [...columnsOf(chosen), ...COLUMNS.filter(({ id }) => !chosen.includes(id))];
  const move = (id: string, by: number): void => {
    const at = chosen.indexOf(id);
    const next = chosen.filter((other) => other !== id);
    next.splice(at + by, 0, id);
    setChosen(next);
  };
  const save = (): void => {
    changeQuery({ columns: null, cursor: null }, { replace: true });
    setPreferences({ columns: chosen.join() === PRESETS.Sentences.join() ? null : chosen, pageSize: Number(size) });
    onClose();
  };
  return (
    <Dialog
      header="Columns and page size"
      action="Apply"
      disabled={!chosen.some((id) => id === "what" || id === "name")}
      onCancel={onClose}
      onAction={save}
    >
      <ColumnLayout columns={2}>
        <FormField label="Columns" description="What happened or Event name must be shown.">
          {ordered.map(({ id, label }) => (
            <div key={id} className="value tall">
              <div>
                <Checkbox
                  checked={chosen.includes(id)}
                  onChange={({ detail }) => setChosen(detail.checked ? [...chosen, id] : chosen.filter((other) => other !== id))}
                >
                  {label}
                </Checkbox>
              </div>
              {chosen.includes(id) && (
                <span className="with-menu">
                  <Button variant="inline-icon" iconName="angle-up" ariaLabel={`Move ${label} up`} disabled={chosen[0] === id} onClick={() => move(id, -1)} />
                  <Button variant="inline-icon" iconName="angle-down" ariaLabel={`Move ${label} down`} disabled={chosen.at(-1) === id} onClick={() => move(id, 1)} />
                </span>
              )}
            </div>
          ))}
        </FormField>
        <SpaceBetween size="l">
          <FormField label="Events per page">
            <SegmentedControl
              label="Events per page"
              selectedId={size}
              options={SIZES.map((id) => ({ id, text: id }))}
              onChange={({ detail }) => setSize(detail.selectedId)}
            />
          </FormField>
          <FormField label="Usual columns">
            <SpaceBetween direction="horizontal" size="xs">
              <Button onClick={() => setChosen([...PRESETS.Sentences])}>Sentences</Button>
              <Button onClick={() => setChosen([...PRESETS.AWS])}>As on AWS</Button>
            </SpaceBetween>
          </FormField>
        </SpaceBetween>
      </ColumnLayout>
    </Dialog>
  );
}

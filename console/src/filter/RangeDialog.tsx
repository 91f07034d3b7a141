import ColumnLayout from "@cloudscape-design/components/column-layout";
import FormField from "@cloudscape-design/components/form-field";
import Input from "@cloudscape-design/components/input";
import { type ReactNode, useState } from "react";
import { Dialog } from "../parts/Dialog";
import { fromZone, stamp, zoneName } from "../text/time";
import { type Range, sinceOf } from "./conditions";

interface Props {
  range: Range;
  zone: string;
  onChange: (range: Range) => void;
  onClose: () => void;
}

const FORM = "YYYY-MM-DD hh:mm:ss";

/** Absolute times, in the zone that the page shows. */
export default function RangeDialog({ range, zone, onChange, onClose }: Props): ReactNode {
  const start = range.last ? sinceOf(range.last, Date.now()) : range.since;
  const [since, setSince] = useState(start ? stamp(start, zone) : "");
  const [until, setUntil] = useState(range.until ? stamp(range.until, zone) : "");
  const from = since ? fromZone(since, zone, false) : null;
  const to = until ? fromZone(until, zone, true) : null;
  const invalid = `Write the time as ${FORM}, or only the date.`;
  const order = from && to && from > to ? "The end is before the start." : undefined;
  const wrong = (since && !from) || (until && !to) || order;
  const apply = (): void => {
    if (wrong) return;
    onChange({ last: null, since: from, until: to });
    onClose();
  };
  return (
    <Dialog header={`Time range (${zoneName(zone)})`} action="Apply" disabled={Boolean(wrong)} onCancel={onClose} onAction={apply}>
      <form onSubmit={(event) => (event.preventDefault(), apply())}>
        <ColumnLayout columns={2}>
          <FormField label="From" description="Empty: from the beginning" errorText={since && !from ? invalid : undefined}>
            <Input value={since} placeholder={FORM} onChange={({ detail }) => setSince(detail.value)} />
          </FormField>
          <FormField label="To" description="Empty: until now" errorText={until && !to ? invalid : order}>
            <Input value={until} placeholder={FORM} onChange={({ detail }) => setUntil(detail.value)} />
          </FormField>
        </ColumnLayout>
      </form>
    </Dialog>
  );
}

import FormField from "@cloudscape-design/components/form-field";
import Input from "@cloudscape-design/components/input";
import RadioGroup from "@cloudscape-design/components/radio-group";
import SpaceBetween from "@cloudscape-design/components/space-between";
import type { ReactNode } from "react";
import { type Errors, type Form, withBucket, withName } from "../pages/turnOn";

interface Props {
  form: Form;
  errors: Errors;
  onChange: (form: Form) => void;
}

/** A choice between yes and no. */
export function YesNo({ label, value, onChange, description }: { label: string; value: boolean; onChange: (value: boolean) => void; description?: string }): ReactNode {
  return (
    <FormField label={label} description={description}>
      <RadioGroup
        direction="horizontal"
        value={value ? "yes" : "no"}
        onChange={({ detail }) => onChange(detail.value === "yes")}
        items={[
          { value: "yes", label: "Yes" },
          { value: "no", label: "No" },
        ]}
        ariaLabel={label}
      />
    </FormField>
  );
}

export function MainFields({ form, errors, onChange }: Props): ReactNode {
  return (
    <SpaceBetween size="l">
      <FormField label="Trail name" errorText={errors.name}>
        <Input value={form.name} placeholder="my-trail" autoFocus onChange={({ detail }) => onChange(withName(form, detail.value))} />
      </FormField>
      <YesNo label="Apply trail to all regions" value={form.allRegions} onChange={(allRegions) => onChange({ ...form, allRegions })} />
      <YesNo
        label="Create a new S3 bucket"
        value={form.createBucket}
        onChange={(createBucket) => onChange(withName({ ...form, createBucket }, form.name))}
      />
      <FormField
        label="S3 bucket"
        errorText={errors.bucket}
        description={form.createBucket ? "Follows the trail's name until you change it." : "An existing bucket whose policy lets CloudTrail write."}
      >
        <Input value={form.bucket} onChange={({ detail }) => onChange(withBucket(form, detail.value))} />
      </FormField>
    </SpaceBetween>
  );
}

/** The destination of an existing trail. */
export function DestinationFields({ form, errors, onChange }: Props): ReactNode {
  return (
    <SpaceBetween size="l">
      <FormField label="S3 bucket" errorText={errors.bucket} description="An existing bucket whose policy lets CloudTrail write.">
        <Input value={form.bucket} onChange={({ detail }) => onChange(withBucket(form, detail.value))} />
      </FormField>
      <YesNo label="Apply trail to all regions" value={form.allRegions} onChange={(allRegions) => onChange({ ...form, allRegions })} />
    </SpaceBetween>
  );
}

export function AdvancedFields({ form, errors, onChange }: Props): ReactNode {
  return (
    <SpaceBetween size="l">
      <FormField label="Log file prefix" errorText={errors.prefix} description="Optional: a prefix for the keys of all files.">
        <Input value={form.prefix} onChange={({ detail }) => onChange({ ...form, prefix: detail.value })} />
      </FormField>
      <YesNo label="Encrypt log files" value={form.encrypt} onChange={(encrypt) => onChange({ ...form, encrypt })} />
      {form.encrypt && (
        <FormField label="KMS key" errorText={errors.kmsKey} description="An ARN, an ID or an alias such as alias/trails.">
          <Input value={form.kmsKey} onChange={({ detail }) => onChange({ ...form, kmsKey: detail.value })} />
        </FormField>
      )}
      <YesNo
        label="Enable log file validation"
        value={form.validation}
        onChange={(validation) => onChange({ ...form, validation })}
        description="Signed digests show later whether a log file was changed, removed or added."
      />
      <YesNo label="SNS notification for every log file delivery" value={form.notify} onChange={(notify) => onChange({ ...form, notify })} />
      {form.notify && (
        <FormField label="SNS topic" errorText={errors.topic}>
          <Input value={form.topic} onChange={({ detail }) => onChange({ ...form, topic: detail.value })} />
        </FormField>
      )}
    </SpaceBetween>
  );
}

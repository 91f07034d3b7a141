/** Defaults of the "Get Started" page, and values derived from typed ones. */

import type { TurnOn } from "../api/types";

export interface Form {
  name: string;
  allRegions: boolean;
  createBucket: boolean;
  bucket: string;
  /** Whether the user typed the bucket name, which then no longer follows the trail name. */
  bucketEdited: boolean;
  prefix: string;
  encrypt: boolean;
  kmsKey: string;
  validation: boolean;
  notify: boolean;
  topic: string;
}

export const START: Form = {
  name: "",
  allRegions: true,
  createBucket: true,
  bucket: "",
  bucketEdited: false,
  prefix: "",
  encrypt: false,
  kmsKey: "",
  validation: true,
  notify: false,
  topic: "",
};

const MAX_BUCKET_LENGTH = 63;
const MIN_LENGTH = 3;

/** A bucket name for a trail: lowercase letters, digits and hyphens, 3 to 63 characters. */
export function bucketFor(trail: string): string {
  const safe = trail
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, "-")
    .replace(/-{2,}/g, "-")
    .slice(0, MAX_BUCKET_LENGTH)
    .replace(/^-+|-+$/g, "");
  return safe && safe.length < MIN_LENGTH ? `trail-${safe}` : safe;
}

export function withName(form: Form, name: string): Form {
  return { ...form, name, bucket: form.bucketEdited || !form.createBucket ? form.bucket : bucketFor(name) };
}

export function withBucket(form: Form, bucket: string): Form {
  return { ...form, bucket, bucketEdited: bucket !== "" };
}

export type Errors = Partial<Record<"name" | "bucket" | "prefix" | "kmsKey" | "topic", string>>;

export function errorsOf(form: Form): Errors {
  const errors: Errors = {};
  const name = nameError(form.name);
  if (name) errors.name = name;
  const bucket = bucketError(form.bucket);
  if (bucket) errors.bucket = bucket;
  if (form.prefix.length > 200) errors.prefix = "A prefix has at most 200 characters.";
  if (form.encrypt && !form.kmsKey.trim()) errors.kmsKey = "Enter the ARN, ID or alias of a KMS key.";
  if (form.notify && !form.topic.trim()) errors.topic = "Enter the name or ARN of an SNS topic.";
  return errors;
}

function nameError(name: string): string | null {
  if (name.length < MIN_LENGTH || name.length > 128) return "A trail name has 3 to 128 characters.";
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9]$/.test(name)) {
    return "Use letters, digits, periods, underscores and hyphens; begin and end with a letter or digit.";
  }
  if (/[._-]{2}/.test(name)) return "Periods, underscores and hyphens may not be next to each other.";
  return /^\d+\.\d+\.\d+\.\d+$/.test(name) ? "A trail name may not look like an IP address." : null;
}

function bucketError(bucket: string): string | null {
  if (bucket.length < MIN_LENGTH || bucket.length > MAX_BUCKET_LENGTH) return "A bucket name has 3 to 63 characters.";
  if (!/^[a-z0-9][a-z0-9.-]*[a-z0-9]$/.test(bucket)) {
    return "Use lower-case letters, digits, hyphens and periods; begin and end with a letter or digit.";
  }
  return /\.\./.test(bucket) || /^\d+\.\d+\.\d+\.\d+$/.test(bucket) ? "This is not a valid bucket name." : null;
}

/** The body of the request, with all members, since the API's defaults differ. */
export function request(form: Form): TurnOn {
  return {
    name: form.name,
    allRegions: form.allRegions,
    createBucket: form.createBucket,
    bucket: form.bucket,
    prefix: form.prefix,
    kmsKey: form.encrypt ? form.kmsKey.trim() : null,
    validation: form.validation,
    topic: form.notify ? form.topic.trim() : null,
    createTopic: form.notify && !form.topic.trim().startsWith("arn:"),
  };
}

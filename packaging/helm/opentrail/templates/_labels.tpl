{{- define "opentrail.labels" -}}
app.kubernetes.io/name: opentrail
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* What finds the pods of one service; never changed, Kubernetes forbids it. */}}
{{- define "ai-service.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "ai-service.labels" -}}
{{ include "ai-service.selector" . }}
app.kubernetes.io/part-of: pilotlight
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

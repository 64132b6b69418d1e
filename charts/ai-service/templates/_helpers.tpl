{{/* Name of the pod with a number, from 0: the release's for the first, which had it before there were more. */}}
{{- define "ai-service.pod" -}}
{{- $root := index . 0 }}{{ $number := index . 1 }}
{{- $root.Release.Name }}{{ if $number }}-{{ add $number 1 }}{{ end }}
{{- end }}

{{/* What finds all pods of the service. */}}
{{- define "ai-service.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
pilotlight/service: {{ .Release.Name }}
{{- end }}

{{/* Labels of every object but pods and what makes them. */}}
{{- define "ai-service.labels" -}}
{{ include "ai-service.labels-of" (list . .Release.Name) }}
{{- end }}

{{/* Labels of one pod by its name, and of what makes it. */}}
{{- define "ai-service.labels-of" -}}
{{- $root := index . 0 -}}
{{ include "ai-service.pod-selector" . }}
pilotlight/service: {{ $root.Release.Name }}
app.kubernetes.io/part-of: pilotlight
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{/* What finds one pod, and not its twin on another machine; never changed, Kubernetes forbids it. */}}
{{- define "ai-service.pod-selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ index . 1 }}
{{- end }}

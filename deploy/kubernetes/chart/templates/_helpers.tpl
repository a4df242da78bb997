{{/* The name of everything, and of the nodes: NAME-0, NAME-1, … A node id has at most 28 characters. */}}
{{- define "brock.name" -}}
{{- $name := .Values.fullnameOverride | default .Release.Name -}}
{{- if gt (len $name) 24 -}}
{{- fail (printf "the name %q is longer than 24 characters, and the pods' names are the node ids, which have at most 28: give the release a shorter name, or set fullnameOverride" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- define "brock.selector" -}}
app.kubernetes.io/name: brock
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "brock.labels" -}}
{{ include "brock.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "brock.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* The domain below which every pod has its name. */}}
{{- define "brock.domain" -}}
{{ include "brock.name" . }}-nodes.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}

{{/* One configuration file for each node: a node must not join itself, and the pods share one template. */}}
{{- define "brock.configs" -}}
{{- $name := include "brock.name" . -}}
{{- $domain := include "brock.domain" . -}}
{{- range $ordinal := until (int .Values.replicas) -}}
{{- if $ordinal }}{{ "\n" }}{{ end -}}
{{ $name }}-{{ $ordinal }}.toml: |
  [node]
  {{- $join := list }}
  {{- range $other := until (int $.Values.replicas) }}
  {{- if ne $other $ordinal }}
  {{- $join = append $join (printf "%s-%d.%s:20004" $name $other $domain) }}
  {{- end }}
  {{- end }}
  join = {{ concat $join $.Values.node.extraJoin | toJson }}
{{- end }}
{{- end -}}

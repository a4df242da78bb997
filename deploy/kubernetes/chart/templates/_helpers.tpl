{{/* The name of all objects. The nodes are NAME-0, NAME-1, …; a node id has at most 28 characters. */}}
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

{{/* The DNS domain of the pods. */}}
{{- define "brock.domain" -}}
{{ include "brock.name" . }}-nodes.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}

{{/* The nodes to join: those of this release, by the SRV records of the headless Service, and external ones. */}}
{{- define "brock.join" -}}
{{ prepend .Values.node.extraJoin (printf "dnssrv+_grpc._tcp.%s" (include "brock.domain" .)) | join "," }}
{{- end -}}

{{/* The number of nodes for which there are Secrets. */}}
{{- define "brock.certified" -}}
{{ max (int .Values.replicas) (int .Values.certificates.maxNodes) }}
{{- end -}}

{{/* The names in a node's certificate: its own name in the headless Service, which the other nodes use, and
those of the Service for clients. */}}
{{- define "brock.dnsNames" -}}
{{- $name := include "brock.name" .root -}}
{{- $namespace := .root.Release.Namespace -}}
- {{ .node }}.{{ include "brock.domain" .root }}
- {{ .node }}.{{ $name }}-nodes.{{ $namespace }}.svc
- {{ $name }}.{{ $namespace }}.svc.{{ .root.Values.clusterDomain }}
- {{ $name }}.{{ $namespace }}.svc
- {{ $name }}.{{ $namespace }}
- {{ $name }}
- localhost
{{- range .root.Values.certificates.extraHosts }}
{{- if not (regexMatch "^([0-9.]+|.*:.*)$" .) }}
- {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "brock.ipAddresses" -}}
- 127.0.0.1
{{- range .Values.certificates.extraHosts }}
{{- if regexMatch "^([0-9.]+|.*:.*)$" . }}
- {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}

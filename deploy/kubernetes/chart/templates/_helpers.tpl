{{/* The name of all objects. The pods are NAME-0, NAME-1, …, and the nodes PREFIXNAME-0, …; a node id has at most
28 characters. */}}
{{- define "brock.name" -}}
{{- $name := .Values.fullnameOverride | default .Release.Name -}}
{{- if gt (len (print .Values.node.idPrefix $name)) 24 -}}
{{- fail (printf "the name %q is longer than 24 characters, and the node ids that are made of it have at most 28: give the release a shorter name, or set fullnameOverride or a shorter node.idPrefix" (print .Values.node.idPrefix $name)) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- define "brock.selector" -}}
app.kubernetes.io/name: brock
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels that no chart version changes: those of pods, which would restart otherwise. */}}
{{- define "brock.podLabels" -}}
{{ include "brock.selector" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "brock.versionLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "brock.labels" -}}
{{ include "brock.podLabels" . }}
{{ include "brock.versionLabels" . }}
{{- end -}}

{{/* The reference of an image: of `image`, or of another one (`own`) with its registry and tag. */}}
{{- define "brock.imageOf" -}}
{{- $image := .root.Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end }}{{ .own.repository }}
{{- if .own.digest }}@{{ .own.digest }}{{ else }}:{{ .own.tag | default $image.tag | default .root.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{- define "brock.image" -}}
{{ include "brock.imageOf" (dict "root" . "own" .Values.image) }}
{{- end -}}

{{/* The service account of the pods; empty: the namespace's default. */}}
{{- define "brock.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "brock.name" .) }}
{{- else -}}
{{ .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/* The DNS domain of the pods. */}}
{{- define "brock.domain" -}}
{{ include "brock.name" . }}-nodes.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}

{{/* The nodes to join: those of this release, by the SRV records of the headless Service, and external ones. */}}
{{- define "brock.join" -}}
{{ prepend .Values.node.extraJoin (printf "dnssrv+_grpc._tcp.%s" (include "brock.domain" .)) | join "," }}
{{- end -}}

{{/* The ports of external nodes. An SRV record has its own port, which is not known here. */}}
{{- define "brock.joinPorts" -}}
{{- $ports := list -}}
{{- range .Values.node.extraJoin -}}
{{- $ports = append $ports (hasPrefix "dnssrv+" . | ternary "20004" (regexFind "[0-9]+$" .)) -}}
{{- end -}}
{{ $ports | uniq | sortAlpha | join "," }}
{{- end -}}

{{/* The addresses of all nodes, for node-admin. */}}
{{- define "brock.addresses" -}}
{{- $addresses := list -}}
{{- range $ordinal := until (int .Values.replicas) -}}
{{- $addresses = append $addresses (printf "%s-%d.%s:20004" (include "brock.name" $) $ordinal (include "brock.domain" $)) -}}
{{- end -}}
{{ join "," $addresses }}
{{- end -}}

{{/* The number of nodes for which there are Secrets. */}}
{{- define "brock.certified" -}}
{{ max (int .Values.replicas) (int .Values.certificates.maxNodes) }}
{{- end -}}

{{/* The environment with the credentials of the store for backups. */}}
{{- define "brock.credentials" -}}
{{- with .Values.backup.credentialsSecret }}
- name: BROCK_NODE_BACKUP_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: access-key-id
- name: BROCK_NODE_BACKUP_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: secret-access-key
- name: BROCK_NODE_BACKUP_SESSION_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: session-token
      optional: true
{{- end }}
{{- end -}}

{{/* The names in the certificate of a pod's node: its own name in the headless Service, which the other nodes use,
its name for other clusters, and those of the Service for clients. */}}
{{- define "brock.dnsNames" -}}
{{- $name := include "brock.name" .root -}}
{{- $namespace := .root.Release.Namespace -}}
- {{ .pod }}.{{ include "brock.domain" .root }}
- {{ .pod }}.{{ $name }}-nodes.{{ $namespace }}.svc
- {{ $name }}.{{ $namespace }}.svc.{{ .root.Values.clusterDomain }}
- {{ $name }}.{{ $namespace }}.svc
- {{ $name }}.{{ $namespace }}
- {{ $name }}
- localhost
{{- with .root.Values.service.perPod }}
{{- if and .enabled .domain }}
- {{ $.pod }}.{{ .domain }}
{{- end }}
{{- end }}
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

{{/* Names, labels and addresses: what objects call each other by. What is said of one component takes
a dict of `root`, the root context, and `component`; the rest takes the root context. */}}

{{- define "passerby.name" -}}
{{ .Values.nameOverride | default .Chart.Name }}
{{- end }}

{{/* What every name of the release begins with: the release's own name, so that releases of version
0.1.0 keep theirs. 46 characters leave room for the component's: see validation.yaml. */}}
{{- define "passerby.fullname" -}}
{{- if not (hasKey .Values "selftest") -}}
{{ fail "values of this version are missing: upgrade with --reset-then-reuse-values, as --reuse-values leaves new values out" }}
{{- end -}}
{{- $name := .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else if or (not $name) (contains $name .Release.Name) -}}
{{ .Release.Name }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 46 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "passerby.componentName" -}}
{{ include "passerby.fullname" .root }}-{{ .component }}
{{- end }}

{{/* What a selector says and never changes. */}}
{{- define "passerby.selectorLabels" -}}
app.kubernetes.io/name: {{ include "passerby.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Ours win over `commonLabels` and `podLabels`: selectors and `passerby doctor` look for them. */}}
{{- define "passerby.labels" -}}
{{- $ours := dict
    "app.kubernetes.io/part-of" "passerby"
    "app.kubernetes.io/version" .root.Chart.AppVersion
    "app.kubernetes.io/managed-by" .root.Release.Service
    "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version) -}}
{{- merge (include "passerby.selectorLabels" . | fromYaml) $ours (.root.Values.commonLabels | default dict) | toYaml }}
{{- end }}

{{- define "passerby.podLabels" -}}
{{- $ours := dict "app.kubernetes.io/part-of" "passerby" -}}
{{- if and (eq .root.Values.images.store "claim") (has .component (list "indexer" "query")) }}
{{- $ours = set $ours "passerby/images" "mounted" }}
{{- end }}
{{- $theirs := (index .root.Values .component).podLabels | default dict -}}
{{- merge (include "passerby.selectorLabels" . | fromYaml) $ours $theirs (.root.Values.commonLabels | default dict) | toYaml }}
{{- end }}

{{/* The name and labels of every object that belongs to one component. */}}
{{- define "passerby.metadata" -}}
name: {{ include "passerby.componentName" . }}
labels:
  {{- include "passerby.labels" . | nindent 2 }}
{{- end }}

{{- define "passerby.image" -}}
{{- $image := .root.Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end }}passerby/{{ .component }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- if eq .component "embedder" }}-{{ ternary "cuda" "cpu" .root.Values.embedder.gpu.enabled }}{{ end }}
{{- with (index .root.Values .component).image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* gRPC asks DNS for every ready pod behind the headless Service and balances over them. */}}
{{- define "passerby.embedderAddress" -}}
dns:///{{ include "passerby.fullname" . }}-embedder:50051
{{- end }}

{{/* The same rule by which the Milvus chart names its Service. */}}
{{- define "passerby.milvusService" -}}
{{- $name := .Values.milvus.nameOverride | default "milvus" -}}
{{- if .Values.milvus.fullnameOverride -}}
{{ .Values.milvus.fullnameOverride }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name }}
{{- else -}}
{{ .Release.Name }}-{{ $name }}
{{- end }}
{{- end }}

{{- define "passerby.milvusPort" -}}
{{- if .Values.milvus.enabled -}}
{{ dig "service" "port" 19530 .Values.milvus }}
{{- else -}}
{{ (urlParse .Values.externalMilvus.uri).host | splitList ":" | last }}
{{- end }}
{{- end }}

{{- define "passerby.milvusUri" -}}
{{- if .Values.milvus.enabled -}}
http://{{ include "passerby.milvusService" . }}:{{ include "passerby.milvusPort" . }}
{{- else -}}
{{ .Values.externalMilvus.uri }}
{{- end }}
{{- end }}

{{/* host:port of Redis, for every namespace. */}}
{{- define "passerby.redisAddress" -}}
{{- if .Values.redis.enabled -}}
{{ include "passerby.fullname" . }}-redis.{{ .Release.Namespace }}.svc:6379
{{- else -}}
{{ (urlParse .Values.externalRedis.url).host }}
{{- end }}
{{- end }}

{{/* Secret with Redis's password; empty: Redis asks for none. */}}
{{- define "passerby.redisSecret" -}}
{{- if .Values.redis.enabled -}}
{{ .Values.redis.secret | default .Values.redis.existingSecret | default (printf "%s-redis" (include "passerby.fullname" .)) }}
{{- else -}}
{{ .Values.externalRedis.secret | default .Values.externalRedis.existingSecret }}
{{- end }}
{{- end }}

{{/* The key of the password in it: in the chart's own always `password`. */}}
{{- define "passerby.redisSecretKey" -}}
{{- $redis := ternary .Values.redis .Values.externalRedis .Values.redis.enabled -}}
{{ if $redis.existingSecret }}{{ $redis.existingSecretPasswordKey }}{{ else }}password{{ end }}
{{- end }}

{{/* Without the password, which may hold characters that a URL would have to encode. */}}
{{- define "passerby.redisUrl" -}}
{{- $url := urlParse (ternary (printf "redis://%s-redis:6379/0" (include "passerby.fullname" .)) .Values.externalRedis.url .Values.redis.enabled) -}}
{{ $url.scheme }}://{{ with $url.userinfo }}{{ . }}@{{ end }}{{ $url.host }}{{ $url.path }}
{{- end }}

{{- define "passerby.imagesUri" -}}
{{- if eq .Values.images.store "claim" -}}
file:///var/lib/passerby/images
{{- else if eq .Values.images.store "s3" -}}
{{ .Values.images.uri }}
{{- end }}
{{- end }}

{{- define "passerby.imagesClaim" -}}
{{ .Values.images.claim.existing | default .Values.images.claim.existingClaim | default (printf "%s-images" (include "passerby.fullname" .)) }}
{{- end }}

{{- define "passerby.s3Port" -}}
{{- $url := urlParse .Values.s3.endpoint -}}
{{- if contains ":" $url.host -}}
{{ splitList ":" $url.host | last }}
{{- else -}}
{{ ternary "80" "443" (eq $url.scheme "http") }}
{{- end }}
{{- end }}

{{/* The model directories within the embedder's container, comma separated. */}}
{{- define "passerby.models" -}}
{{- $paths := list -}}
{{- range .Values.embedder.model.names }}{{ $paths = append $paths (printf "/models/%s" .) }}{{ end -}}
{{ $paths | join "," | default "/models" }}
{{- end }}

{{/* The names by which browsers may call query: its own, those by which it is published, and the
values'. What is published under any name may be called by any. */}}
{{- define "passerby.allowedHosts" -}}
{{- $name := printf "%s-query" (include "passerby.fullname" .) -}}
{{- $inside := printf "%s.%s" $name .Release.Namespace -}}
{{- $names := list $name $inside (printf "%s.svc" $inside) (printf "%s.svc.cluster.local" $inside) -}}
{{- if .Values.ingress.enabled }}{{ $names = append $names (.Values.ingress.host | default "*") }}{{ end -}}
{{- if .Values.httpRoute.enabled }}{{ $names = concat $names (.Values.httpRoute.hostnames | default (list "*")) }}{{ end -}}
{{- concat $names (.Values.query.allowedHosts | default list) | uniq | join "," -}}
{{- end }}

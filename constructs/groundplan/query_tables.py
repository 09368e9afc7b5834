from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass

from aws_cdk import Aws
from aws_cdk import aws_athena as athena
from aws_cdk import aws_glue as glue
from constructs import Construct

from groundplan.artifact_bucket import ArtifactBucket

PARQUET = "org.apache.hadoop.hive.ql.io.parquet"
PRESTO = {"string": "varchar", "int": "integer"}
"""Presto types, used in views, by the corresponding Hive types, where their names differ."""


@dataclass(frozen=True, kw_only=True)
class HourlyTable:
    """A table of Parquet files under `FOLDER/date=2022-01-31/hour=05/`."""

    folder: str
    """Folder of the bucket with the files."""
    columns: Mapping[str, str]
    """Hive types by column name, without the partition columns `date` and `hour`."""
    since: str = "2015-01-01"
    """First day of the table; queries read no folders of earlier days. Default: 2015-01-01."""


@dataclass(frozen=True, kw_only=True)
class View:
    """An Athena view."""

    sql: str
    """The view's query."""
    columns: Mapping[str, str]
    """Hive types of the query's columns, by name."""


class QueryTables(Construct):
    """Amazon Athena tables over a bucket, with views and saved queries.

    Tables use partition projection: Athena computes from a query which folders to read, and no partitions are
    registered.

    :param name: name of the workgroup and, with underscores instead of hyphens, of the database.
    :param bucket: the bucket with the tables' files. Query results are written to its folder `queries`.
    :param tables: tables by name.
    :param views: views by name. Default: none.
    :param queries: SQL of the workgroup's saved queries, by name. Default: none.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        name: str,
        bucket: ArtifactBucket,
        tables: Mapping[str, HourlyTable],
        views: Mapping[str, View] | None = None,
        queries: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(scope, id)
        self.database_name = name.replace("-", "_")
        """The database's name."""
        self.workgroup_name = name
        """The workgroup's name."""
        self._database = glue.CfnDatabase(
            self,
            "Database",
            catalog_id=Aws.ACCOUNT_ID,
            database_input=glue.CfnDatabase.DatabaseInputProperty(name=self.database_name),
        )
        results = f"s3://{bucket.bucket.bucket_name}/queries/"
        encryption = athena.CfnWorkGroup.EncryptionConfigurationProperty(
            encryption_option="SSE_KMS" if bucket.key else "SSE_S3",
            kms_key=bucket.key.key_arn if bucket.key else None,
        )
        self.workgroup = athena.CfnWorkGroup(
            self,
            "WorkGroup",
            name=name,
            description=f"Queries of {self.database_name}",
            recursive_delete_option=True,
            work_group_configuration=athena.CfnWorkGroup.WorkGroupConfigurationProperty(
                enforce_work_group_configuration=True,
                publish_cloud_watch_metrics_enabled=True,
                result_configuration=athena.CfnWorkGroup.ResultConfigurationProperty(
                    output_location=results, encryption_configuration=encryption
                ),
            ),
        )
        """The Athena workgroup."""
        for table, each in tables.items():
            self._table(table, each, f"s3://{bucket.bucket.bucket_name}/{each.folder}")
        for view, chosen in (views or {}).items():
            self._view(view, chosen)
        for query, text in (queries or {}).items():
            athena.CfnNamedQuery(
                self,
                f"{query}Query",
                database=self._database.ref,
                name=f"{name}-{query}",
                query_string=text,
                work_group=self.workgroup.ref,
            )

    def _table(self, name: str, table: HourlyTable, location: str) -> None:
        # ${date} and ${hour} are placeholders of Athena, not of CloudFormation
        template = f"{location}/date=${{date}}/hour=${{hour}}/"
        self._add(
            name,
            glue.CfnTable.TableInputProperty(
                name=name,
                table_type="EXTERNAL_TABLE",
                partition_keys=_columns({"date": "string", "hour": "string"}),
                parameters={
                    "classification": "parquet",
                    "projection.enabled": "true",
                    "projection.date.type": "date",
                    "projection.date.format": "yyyy-MM-dd",
                    "projection.date.range": f"{table.since},NOW+3DAYS",
                    "projection.hour.type": "integer",
                    "projection.hour.range": "0,23",
                    "projection.hour.digits": "2",
                    "storage.location.template": template,
                },
                storage_descriptor=glue.CfnTable.StorageDescriptorProperty(
                    location=f"{location}/",
                    columns=_columns(table.columns),
                    input_format=f"{PARQUET}.MapredParquetInputFormat",
                    output_format=f"{PARQUET}.MapredParquetOutputFormat",
                    serde_info=glue.CfnTable.SerdeInfoProperty(
                        serialization_library=f"{PARQUET}.serde.ParquetHiveSerDe"
                    ),
                ),
            ),
        )

    def _view(self, name: str, view: View) -> None:
        """Add a view as Athena stores it: a table whose view text contains the query in Base64."""
        described = {
            "originalSql": view.sql,
            "catalog": "awsdatacatalog",
            "schema": self.database_name,
            "columns": [
                {"name": column, "type": PRESTO.get(kind, kind)} for column, kind in view.columns.items()
            ],
        }
        text = base64.b64encode(json.dumps(described).encode()).decode()
        self._add(
            name,
            glue.CfnTable.TableInputProperty(
                name=name,
                table_type="VIRTUAL_VIEW",
                parameters={"presto_view": "true", "comment": "Presto View"},
                partition_keys=[],
                view_original_text=f"/* Presto View: {text} */",
                view_expanded_text="/* Presto View */",
                storage_descriptor=glue.CfnTable.StorageDescriptorProperty(
                    columns=_columns(view.columns), serde_info=glue.CfnTable.SerdeInfoProperty()
                ),
            ),
        )

    def _add(self, name: str, table: glue.CfnTable.TableInputProperty) -> None:
        glue.CfnTable(
            self,
            f"{name.title().replace('_', '')}Table",
            catalog_id=Aws.ACCOUNT_ID,
            database_name=self._database.ref,
            table_input=table,
        )


def _columns(types: Mapping[str, str]) -> list[glue.CfnTable.ColumnProperty]:
    return [glue.CfnTable.ColumnProperty(name=name, type=kind) for name, kind in types.items()]
